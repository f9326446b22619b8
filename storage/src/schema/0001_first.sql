-- The first schema. Base tables may change by later migrations; the views are the public surface.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, run TEXT NOT NULL, at_us INTEGER NOT NULL,
    kind TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX event_run ON event (run, seq);
CREATE TABLE run (
    id TEXT PRIMARY KEY, parent TEXT, profile TEXT NOT NULL, config TEXT NOT NULL, config_hash TEXT NOT NULL,
    seed INTEGER NOT NULL, host TEXT NOT NULL, version TEXT NOT NULL, generation INTEGER NOT NULL,
    started_us INTEGER NOT NULL, ended_us INTEGER, status TEXT NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE TABLE metric_key (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE metric (
    key INTEGER NOT NULL REFERENCES metric_key (id), run TEXT NOT NULL, step INTEGER NOT NULL, value REAL,
    at_us INTEGER NOT NULL, PRIMARY KEY (key, run, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE latest (
    run TEXT NOT NULL, key INTEGER NOT NULL REFERENCES metric_key (id), step INTEGER NOT NULL, value REAL,
    at_us INTEGER NOT NULL, PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE steer (
    id TEXT PRIMARY KEY, run TEXT NOT NULL, by TEXT NOT NULL, action TEXT NOT NULL, key TEXT, old TEXT, new TEXT,
    asked_step INTEGER NOT NULL, applied_step INTEGER, at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE checkpoint (
    run TEXT NOT NULL, step INTEGER NOT NULL, hash TEXT NOT NULL, weights INTEGER NOT NULL, path TEXT NOT NULL,
    reason TEXT NOT NULL, bytes INTEGER NOT NULL, kept INTEGER NOT NULL, at_us INTEGER NOT NULL,
    PRIMARY KEY (run, step)
) STRICT;
CREATE TABLE example (
    id TEXT PRIMARY KEY, run TEXT NOT NULL, source TEXT NOT NULL, split TEXT NOT NULL, modality TEXT NOT NULL,
    generator TEXT NOT NULL, verifier TEXT NOT NULL, score REAL, text TEXT NOT NULL, picture TEXT, licence TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE trace (
    id TEXT PRIMARY KEY, run TEXT NOT NULL, round INTEGER NOT NULL, example TEXT NOT NULL, generator TEXT NOT NULL,
    sampler TEXT NOT NULL, seed INTEGER NOT NULL, prompt TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE TABLE verdict (
    subject TEXT NOT NULL, gate TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL, passed INTEGER NOT NULL,
    reason TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (run, subject, gate)
) STRICT, WITHOUT ROWID;
CREATE TABLE score (
    subject TEXT NOT NULL, reward TEXT NOT NULL, run TEXT NOT NULL, value REAL, weight REAL NOT NULL,
    PRIMARY KEY (subject, reward)
) STRICT, WITHOUT ROWID;
CREATE TABLE sample (
    id TEXT PRIMARY KEY, run TEXT NOT NULL, step INTEGER NOT NULL, grp INTEGER NOT NULL, number INTEGER NOT NULL,
    example TEXT NOT NULL, modality TEXT NOT NULL, weights INTEGER NOT NULL, prompt TEXT NOT NULL, text TEXT NOT NULL,
    picture TEXT, parts TEXT NOT NULL, total REAL, advantage REAL, trained INTEGER NOT NULL
) STRICT;
CREATE INDEX sample_step ON sample (run, step);
CREATE TABLE train_use (
    run TEXT NOT NULL, step INTEGER NOT NULL, number INTEGER NOT NULL, stage TEXT NOT NULL, subject TEXT NOT NULL,
    PRIMARY KEY (run, step, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX train_use_subject ON train_use (subject);
CREATE TABLE eval (
    run TEXT NOT NULL, step INTEGER NOT NULL, suite TEXT NOT NULL, checkpoint TEXT NOT NULL, metric TEXT NOT NULL,
    value REAL, low REAL, high REAL, n INTEGER NOT NULL, parts TEXT NOT NULL, decision TEXT NOT NULL,
    at_us INTEGER NOT NULL, PRIMARY KEY (run, step, suite, checkpoint, metric)
) STRICT;
CREATE TABLE clean (
    run TEXT NOT NULL, benchmark TEXT NOT NULL, source TEXT NOT NULL, rule TEXT NOT NULL, checked INTEGER NOT NULL,
    overlapped INTEGER NOT NULL, PRIMARY KEY (run, benchmark, source, rule)
) STRICT;
CREATE TABLE alert (
    run TEXT NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL, level TEXT NOT NULL, message TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE log (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, actor TEXT NOT NULL, level TEXT NOT NULL, message TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE lifecycle (
    run TEXT NOT NULL, actor TEXT NOT NULL, generation INTEGER NOT NULL, what TEXT NOT NULL, reason TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE frame (
    sample TEXT NOT NULL, step INTEGER NOT NULL, run TEXT NOT NULL, at_us INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (sample, step)
) STRICT, WITHOUT ROWID;

CREATE VIEW v_run AS SELECT id AS run, parent, profile, status, reason, seed, generation, host, version, config_hash,
    started_us, ended_us,
    (SELECT max(step) FROM latest WHERE latest.run = run.id) AS step
    FROM run;
CREATE VIEW v_metric AS SELECT metric.run, metric_key.name, metric.step, metric.value, metric.at_us
    FROM metric_key JOIN metric ON metric.key = metric_key.id;
CREATE VIEW v_latest AS SELECT latest.run, metric_key.name, latest.step, latest.value, latest.at_us
    FROM latest JOIN metric_key ON latest.key = metric_key.id;
CREATE VIEW v_rollout AS SELECT id AS sample, run, step, grp AS "group", number, example, modality, weights, prompt, text,
    picture, parts, total, advantage, trained FROM sample;
CREATE VIEW v_trace AS SELECT trace.id AS trace, trace.run, trace.round, trace.example, trace.generator, trace.seed,
    trace.prompt, trace.text, verdict.gate, verdict.passed, verdict.reason
    FROM trace LEFT JOIN verdict ON verdict.subject = trace.id AND verdict.run = trace.run;
CREATE VIEW v_lineage AS SELECT train_use.run, train_use.step, train_use.stage, train_use.subject,
    coalesce(example.source, CASE WHEN sample.id IS NOT NULL THEN 'rollout' END, CASE WHEN trace.id IS NOT NULL THEN 'reasoner' END) AS source,
    coalesce(example.generator, trace.generator, 'weights:' || sample.weights) AS generator,
    coalesce(example.verifier, CASE WHEN sample.id IS NOT NULL THEN 'rewards' END, CASE WHEN trace.id IS NOT NULL THEN 'trace' END) AS verifier,
    coalesce(example.score, sample.total, 1.0) AS score
    FROM train_use LEFT JOIN example ON example.id = train_use.subject
    LEFT JOIN sample ON sample.id = train_use.subject LEFT JOIN trace ON trace.id = train_use.subject;
CREATE VIEW v_steer AS SELECT id, run, by, action, key, old, new, asked_step, applied_step, at_us FROM steer;
CREATE VIEW v_funnel AS SELECT run, round, source, gate, CASE WHEN passed THEN '' ELSE reason END AS reason,
    sum(passed) AS passed, sum(1 - passed) AS rejected
    FROM verdict GROUP BY 1, 2, 3, 4, 5;
CREATE VIEW v_eval AS SELECT run, step, checkpoint, suite, metric, value, low, high, n, parts, decision, at_us FROM eval;
CREATE VIEW v_event AS SELECT seq, run, at_us, kind, body FROM event;
CREATE VIEW v_checkpoint AS SELECT run, step, hash, weights, path, reason, bytes, kept, at_us FROM checkpoint;
CREATE VIEW v_alert AS SELECT run, step, kind, level, message, at_us FROM alert;

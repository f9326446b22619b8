-- A rollout stores by how many steps the weights that drew it were older than those trained on it. A run says whether a
-- repetition of it is the same: not if the freshest weights draw (law L11).
ALTER TABLE sample ADD COLUMN staleness INTEGER NOT NULL DEFAULT 0;
DROP VIEW v_rollout;
CREATE VIEW v_rollout AS SELECT id AS sample, run, step, grp AS "group", number, example, modality, weights, prompt, text,
    picture, parts, total, advantage, trained, reference, asked, staleness FROM sample;
DROP VIEW v_run;
CREATE VIEW v_run AS SELECT id AS run, parent, profile, status, reason, seed, generation, host, version, config_hash,
    started_us, ended_us,
    (SELECT max(step) FROM latest WHERE latest.run = run.id) AS step, parent_step, name, tags, note, config,
    CASE WHEN json_valid(config) THEN coalesce(json_extract(config, '$.rollouts.mode'), 'exact') <> 'freshest' ELSE 1 END AS reproducible
    FROM run;

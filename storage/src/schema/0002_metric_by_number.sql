-- A metric row refers to its run by a number instead of 36 characters, so that queries read a third of the bytes.
-- CROSS JOIN fixes the join order (the few names, the few runs, then a range of rows): without it, SQLite scans the whole
-- table if only the run or the step is given.
CREATE TABLE run_key (id INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO run_key (run) SELECT DISTINCT run FROM latest ORDER BY run;
INSERT OR IGNORE INTO run_key (run) SELECT DISTINCT run FROM metric;
CREATE TABLE value (
    key INTEGER NOT NULL REFERENCES metric_key (id), run INTEGER NOT NULL REFERENCES run_key (id), step INTEGER NOT NULL,
    value REAL, at_us INTEGER NOT NULL, PRIMARY KEY (key, run, step)
) STRICT, WITHOUT ROWID;
INSERT INTO value SELECT metric.key, run_key.id, metric.step, metric.value, metric.at_us
    FROM metric JOIN run_key ON run_key.run = metric.run ORDER BY 1, 2, 3;
DROP VIEW v_metric;
DROP TABLE metric;
ALTER TABLE value RENAME TO metric;
CREATE VIEW v_metric AS SELECT run_key.run, metric_key.name, metric.step, metric.value, metric.at_us
    FROM metric_key CROSS JOIN run_key CROSS JOIN metric
    WHERE metric.key = metric_key.id AND metric.run = run_key.id;
-- Finds alerts, checkpoints and other kinds in a long event log without reading the bodies of its rows.
CREATE INDEX event_kind ON event (kind, seq);

-- A run's labels, the checkpoint from which it starts, and the queue of runs.
ALTER TABLE run ADD COLUMN parent_step INTEGER;
ALTER TABLE run ADD COLUMN name TEXT;
ALTER TABLE run ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE run ADD COLUMN note TEXT NOT NULL DEFAULT '';
CREATE INDEX run_hash ON run (config_hash);
-- A queue row stays after its run has begun; a run is waiting as long as the table run has no row of it.
CREATE TABLE queue (
    run TEXT PRIMARY KEY, place INTEGER NOT NULL, by TEXT NOT NULL, profile TEXT NOT NULL, config_hash TEXT NOT NULL,
    request TEXT NOT NULL, at_us INTEGER NOT NULL, cancelled TEXT
) STRICT;
DROP VIEW v_run;
CREATE VIEW v_run AS SELECT id AS run, parent, profile, status, reason, seed, generation, host, version, config_hash,
    started_us, ended_us,
    (SELECT max(step) FROM latest WHERE latest.run = run.id) AS step, parent_step, name, tags, note, config
    FROM run;
CREATE VIEW v_queue AS SELECT run, row_number() OVER (ORDER BY place, run) AS place, profile,
    json_extract(request, '$.labels.name') AS name, by, at_us
    FROM queue WHERE cancelled IS NULL AND run NOT IN (SELECT id FROM run);

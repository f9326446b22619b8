-- The id of an order is unique within its run: an order to another run under the same id is an order of its own, and does not
-- change the row of the first. A queued request that is not JSON makes no query of the queue fail.
CREATE TABLE run_steer (
    id TEXT NOT NULL, run TEXT NOT NULL, by TEXT NOT NULL, action TEXT NOT NULL, key TEXT, old TEXT, new TEXT,
    asked_step INTEGER NOT NULL, applied_step INTEGER, at_us INTEGER NOT NULL, PRIMARY KEY (run, id)
) STRICT;
INSERT INTO run_steer (rowid, id, run, by, action, key, old, new, asked_step, applied_step, at_us)
    SELECT rowid, id, run, by, action, key, old, new, asked_step, applied_step, at_us FROM steer ORDER BY rowid;
DROP VIEW v_steer;
DROP TABLE steer;
ALTER TABLE run_steer RENAME TO steer;
CREATE VIEW v_steer AS SELECT id, run, by, action, key, old, new, asked_step, applied_step, at_us FROM steer;
DROP VIEW v_queue;
CREATE VIEW v_queue AS SELECT run, row_number() OVER (ORDER BY place, run) AS place, profile,
    CASE WHEN json_valid(request) THEN json_extract(request, '$.labels.name') END AS name, by, at_us
    FROM queue WHERE cancelled IS NULL AND run NOT IN (SELECT id FROM run);

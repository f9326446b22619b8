-- A verdict may stand for many rows that passed; the funnel counts them all.
ALTER TABLE verdict ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
DROP VIEW v_funnel;
CREATE VIEW v_funnel AS SELECT run, round, source, gate, CASE WHEN passed THEN '' ELSE reason END AS reason,
    sum(passed * count) AS passed, sum((1 - passed) * count) AS rejected
    FROM verdict GROUP BY 1, 2, 3, 4, 5;

-- The items of every evaluation, by runs and by `demask eval`, and the promotion gate's comparison.
CREATE TABLE item (
    run TEXT NOT NULL, step INTEGER NOT NULL, suite TEXT NOT NULL, number INTEGER NOT NULL, item TEXT NOT NULL,
    category TEXT NOT NULL, counted INTEGER NOT NULL, prompt TEXT NOT NULL, picture TEXT, output TEXT NOT NULL, drawn TEXT,
    answer TEXT NOT NULL, reference TEXT NOT NULL, credit REAL NOT NULL, tokens INTEGER NOT NULL, forwards INTEGER NOT NULL,
    seconds REAL NOT NULL, PRIMARY KEY (run, step, suite, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluation (
    id TEXT PRIMARY KEY, checkpoint TEXT NOT NULL, suites TEXT NOT NULL, settings TEXT NOT NULL, seed INTEGER NOT NULL,
    item_limit INTEGER, host TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL, started_us INTEGER NOT NULL, ended_us INTEGER
) STRICT;
ALTER TABLE eval ADD COLUMN gain REAL;
ALTER TABLE eval ADD COLUMN gain_low REAL;
ALTER TABLE eval ADD COLUMN gain_high REAL;
CREATE VIEW v_item AS SELECT run, step, suite, number, item, category, counted, prompt, picture, output, drawn, answer, reference,
    credit, tokens, forwards, seconds FROM item;
CREATE VIEW v_evaluation AS SELECT id AS run, checkpoint, suites, settings, seed, item_limit, host, version, state, started_us,
    ended_us FROM evaluation;
DROP VIEW v_eval;
CREATE VIEW v_eval AS SELECT run, step, checkpoint, suite, metric, value, low, high, n, parts, decision, at_us, gain, gain_low,
    gain_high FROM eval;

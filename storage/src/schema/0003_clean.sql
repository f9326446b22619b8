-- What was checked against which benchmark (law L6), open to queries.
CREATE VIEW v_clean AS SELECT run, source, benchmark, rule, checked, overlapped FROM clean;

-- The checks against benchmarks (law L6), as a public view.
CREATE VIEW v_clean AS SELECT run, source, benchmark, rule, checked, overlapped FROM clean;

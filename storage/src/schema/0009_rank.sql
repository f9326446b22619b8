-- The ranks of a run that several processes train together: what each reported of the last step.
CREATE TABLE rank (
    run TEXT NOT NULL, rank INTEGER NOT NULL, step INTEGER NOT NULL, device TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    memory INTEGER NOT NULL, peak INTEGER NOT NULL, device_memory INTEGER NOT NULL, device_peak INTEGER NOT NULL,
    seconds REAL, wait_seconds REAL, bytes INTEGER NOT NULL, restarts INTEGER NOT NULL, began_us INTEGER NOT NULL,
    at_us INTEGER NOT NULL, PRIMARY KEY (run, rank)
) STRICT;
CREATE VIEW v_rank AS SELECT run, rank, step, device, host, pid, memory, peak, device_memory, device_peak, seconds, wait_seconds,
    bytes, restarts, began_us, at_us FROM rank;

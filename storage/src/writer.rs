//! Writes records as rows, one transaction a batch. Writing the same record twice leaves one row (law L1).

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::events::{events_since, last_seq};
use crate::record::{Alert, Envelope, Level, Metric, QueueAction, QueueChange, Record, StepRanks};
use crate::store::{self, StoreError};
use crate::vocabulary::Decision;

/// The only writer of a store.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
}

impl Writer {
    /// Opens the store for writing.
    ///
    /// # Errors
    /// Those of [`store::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            connection: store::open(path)?,
        })
    }

    /// Returns the connection, for reading what was committed.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Writes a batch in one transaction and numbers its records. For each value that is not finite, an alert is added.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the disk is full: nothing of the batch was written, and it can be retried. Any other
    /// SQLite error.
    pub fn append(&mut self, records: &[Record], at_us: i64) -> Result<Vec<Envelope>, StoreError> {
        let transaction = self.connection.transaction()?;
        let mut envelopes = Vec::with_capacity(records.len());
        let mut seq = last_seq(&transaction)?;
        for record in records {
            seq = write(&transaction, record, at_us)?.unwrap_or(seq);
            envelopes.push(Envelope {
                seq,
                at_us,
                record: record.clone(),
            });
            for alert in not_finite(record) {
                seq = write(&transaction, &alert, at_us)?.unwrap_or(seq);
                envelopes.push(Envelope {
                    seq,
                    at_us,
                    record: alert,
                });
            }
        }
        transaction.commit()?;
        Ok(envelopes)
    }

    /// Returns the durable events after a sequence number, oldest first.
    ///
    /// # Errors
    /// Any SQLite error.
    pub fn events_since(&self, seq: u64, limit: u64) -> Result<Vec<Envelope>, StoreError> {
        events_since(&self.connection, seq, limit)
    }

    /// Moves the write-ahead log into the database file, at a clean stop.
    ///
    /// # Errors
    /// Any SQLite error.
    pub fn finish(&self) -> Result<(), StoreError> {
        Ok(self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn not_finite(record: &Record) -> Vec<Record> {
    let Record::Metric(Metric { run, step, values }) = record else {
        return Vec::new();
    };
    values
        .iter()
        .filter(|(_, value)| !value.is_finite())
        .map(|(name, value)| {
            let message = format!("{name} is {value} at step {step}; stored as NULL");
            let kind = "not_finite".to_owned();
            Record::Alert(Alert {
                run: run.clone(),
                step: *step,
                level: Level::Warn,
                kind,
                message,
            })
        })
        .collect()
}

/// Writes one record; returns the sequence number of its event, if it has one.
fn write(tx: &Transaction<'_>, record: &Record, at_us: i64) -> Result<Option<u64>, StoreError> {
    if !record.stored() {
        return Ok(None);
    }
    let fresh = if record.is_logged() {
        log_event(tx, record, at_us)?
    } else {
        None
    };
    // Records without a natural key are written only together with their event.
    if matches!(record, Record::Alert(_) | Record::Lifecycle(_)) && fresh.is_none() {
        return Ok(None);
    }
    row(tx, record, at_us)?;
    Ok(fresh)
}

/// Adds a record to the event log unless it is there already.
fn log_event(tx: &Transaction<'_>, record: &Record, at_us: i64) -> Result<Option<u64>, StoreError> {
    let body = serde_json::to_string(record).map_err(|error| StoreError::Query(error.to_string()))?;
    let key = match record {
        // These can recur with equal content: a resumed run may be stopped again, or labelled as before.
        Record::Lifecycle(_) | Record::RunEnd(_) | Record::Relabelled(_) => {
            format!("{at_us}:{}", blake3::hash(body.as_bytes()).to_hex())
        }
        _ => blake3::hash(body.as_bytes()).to_hex().to_string(),
    };
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO event (key, run, at_us, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let (kind, run) = kind_and_run(record);
    let added = insert.execute(params![key, run, at_us, kind, body])?;
    Ok((added > 0).then(|| tx.last_insert_rowid() as u64))
}

fn kind_and_run(record: &Record) -> (&'static str, &str) {
    match record {
        Record::Run(r) => ("run", &r.id),
        Record::RunEnd(r) => ("run_end", &r.run),
        Record::Relabelled(r) => ("relabelled", &r.run),
        Record::Queued(r) => ("queued", &r.run),
        Record::Queue(r) => match &r.change {
            QueueAction::Order { .. } => ("queue", ""),
            QueueAction::Cancel { run, .. } => ("queue", run),
        },
        Record::Metric(r) => ("metric", &r.run),
        Record::Ranks(r) => ("ranks", &r.run),
        Record::Steer(r) => ("steer", &r.run),
        Record::Checkpoint(r) => ("checkpoint", &r.run),
        Record::Example(r) => ("example", &r.run),
        Record::Trace(r) => ("trace", &r.run),
        Record::Verdict(r) => ("verdict", &r.run),
        Record::Sample(r) => ("sample", &r.run),
        Record::TrainUse(r) => ("train_use", &r.run),
        Record::Eval(r) => ("eval", &r.run),
        Record::Item(r) => ("item", &r.run),
        Record::Evaluation(r) => ("evaluation", &r.id),
        Record::Clean(r) => ("clean", &r.run),
        Record::Alert(r) => ("alert", &r.run),
        Record::Lifecycle(r) => ("lifecycle", &r.run),
        Record::Frame(r) => ("frame", &r.run),
        Record::Actor(_) => ("actor", ""),
        Record::Overview(r) => ("overview", &r.run),
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Returns a gain or an end of its interval; NULL if nothing was compared.
fn gain(eval: &crate::record::Eval, which: usize) -> Option<f64> {
    eval.gain.and_then(|gain| finite(gain[which]))
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

fn row(tx: &Transaction<'_>, record: &Record, at: i64) -> Result<(), StoreError> {
    let put = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> Result<(), StoreError> {
        tx.prepare_cached(sql)?.execute(values)?;
        Ok(())
    };
    match record {
        Record::Run(r) => {
            put(
            // The labels stay: they may have been changed since.
            "INSERT INTO run VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, NULL, 'running', '', ?11, ?12, ?13, ?14)
             ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, status = 'running', reason = '', ended_us = NULL",
            params![
                r.id, r.parent, r.profile, json(&r.config), r.config_hash, r.seed as i64, r.host, r.version, r.generation as i64,
                at, r.parent_step.map(|step| step as i64), r.labels.name, json(&r.labels.tags), r.labels.note
            ],
            )?;
            // The labels may have changed while the run waited, without the knowledge of the daemon that starts it.
            if r.generation > 0 {
                return Ok(());
            }
            put(
                "UPDATE run SET name = labels ->> '$.name', tags = coalesce(labels -> '$.tags', '[]'),
                 note = coalesce(labels ->> '$.note', '')
                 FROM (SELECT json_extract(request, '$.labels') AS labels FROM queue WHERE run = ?1)
                 WHERE id = ?1 AND labels IS NOT NULL",
                params![r.id],
            )
        }
        Record::Relabelled(r) => {
            let tags = json(&r.labels.tags);
            put(
                "UPDATE run SET name = ?2, tags = ?3, note = ?4 WHERE id = ?1",
                params![r.run, r.labels.name, tags, r.labels.note],
            )?;
            put(
                "UPDATE queue SET request = json_set(request, '$.labels', json(?2)) WHERE run = ?1",
                params![r.run, json(&r.labels)],
            )
        }
        Record::Queued(r) => put(
            "INSERT INTO queue VALUES (?1, (SELECT coalesce(max(place), 0) + 1 FROM queue), ?2, ?3, ?4, ?5, ?6, NULL)
             ON CONFLICT (run) DO NOTHING",
            params![r.run, r.by, r.profile, r.config_hash, json(&r.request), at],
        ),
        Record::Queue(r) => queue(tx, r),
        Record::RunEnd(r) => {
            put("UPDATE run SET status = ?2, reason = ?3, ended_us = ?4 WHERE id = ?1", params![r.run, r.status, r.reason, at])
        }
        Record::Ranks(r) => ranks(tx, r, at),
        Record::Metric(r) => metric(tx, r, at),
        Record::Steer(r) => put(
            "INSERT INTO steer VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (run, id) DO UPDATE SET
             old = coalesce(excluded.old, old), applied_step = coalesce(excluded.applied_step, applied_step)",
            params![r.id, r.run, r.by, r.action, r.key, r.old, r.new, r.asked_step as i64, r.applied_step.map(|s| s as i64), at],
        ),
        Record::Checkpoint(r) => put(
            "INSERT INTO checkpoint VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (run, step) DO UPDATE SET
             hash = excluded.hash, weights = excluded.weights, path = excluded.path, reason = excluded.reason,
             bytes = excluded.bytes, kept = excluded.kept",
            params![r.run, r.step as i64, r.hash, r.weights as i64, r.path, r.reason, r.bytes as i64, r.kept, at],
        ),
        Record::Example(r) => put(
            "INSERT OR IGNORE INTO example VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![r.id, r.run, r.source, r.split, r.modality, r.generator, r.verifier, finite(r.score), r.text, r.picture, r.licence, r.place],
        ),
        Record::Trace(r) => put(
            "INSERT OR REPLACE INTO trace VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![r.id, r.run, r.round as i64, r.example, r.generator, json(&r.sampler), r.seed as i64, r.prompt, r.text],
        ),
        Record::Verdict(r) => put(
            "INSERT OR REPLACE INTO verdict VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![r.subject, r.gate, r.run, r.round as i64, r.passed, r.reason, r.source, r.count as i64],
        ),
        Record::Sample(r) => put(
            "INSERT OR REPLACE INTO sample VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
            params![
                r.id, r.run, r.step as i64, r.group as i64, r.number as i64, r.example, r.modality, r.weights as i64, r.prompt,
                r.text, r.picture, json(&r.parts), finite(r.total), finite(r.advantage), r.trained,
                r.reference, r.asked, r.staleness as i64
            ],
        ),
        Record::TrainUse(r) => {
            for (number, subject) in r.subjects.iter().enumerate() {
                put(
                    "INSERT OR REPLACE INTO train_use VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![r.run, r.step as i64, number as i64, r.stage, subject],
                )?;
            }
            Ok(())
        }
        Record::Eval(r) => put(
            "INSERT OR REPLACE INTO eval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                r.run, r.step as i64, r.suite, r.checkpoint, r.metric, finite(r.value), finite(r.low), finite(r.high),
                r.n as i64, json(&r.parts), r.decision.map_or("", Decision::word), at, gain(r, 0), gain(r, 1), gain(r, 2)
            ],
        ),
        Record::Item(r) => put(
            "INSERT OR REPLACE INTO item VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            params![
                r.run, r.step as i64, r.suite, r.number as i64, r.item, r.category, r.counted, r.prompt, r.picture, r.output,
                r.drawn, r.answer, r.reference, finite(r.credit).unwrap_or(0.0), r.tokens as i64, r.forwards as i64, r.seconds
            ],
        ),
        Record::Evaluation(r) => put(
            "INSERT INTO evaluation VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, NULL) ON CONFLICT (id) DO UPDATE SET
             state = excluded.state, ended_us = iif(excluded.state = 'running', NULL, excluded.started_us)",
            params![
                r.id, r.checkpoint, json(&r.suites), json(&r.settings), r.seed as i64, r.limit.map(|limit| limit as i64), r.host,
                r.version, r.state, at
            ],
        ),
        Record::Clean(r) => put(
            // After a restart, counting begins at zero again.
            "INSERT INTO clean VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET
             checked = max(checked, excluded.checked), overlapped = max(overlapped, excluded.overlapped)",
            params![r.run, r.benchmark, r.source, r.rule, r.checked as i64, r.overlapped as i64],
        ),
        Record::Alert(r) => put(
            "INSERT INTO alert VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![r.run, r.step as i64, r.kind, level(r.level), r.message, at],
        ),
        Record::Lifecycle(r) => put(
            "INSERT INTO lifecycle VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![r.run, r.actor, r.generation as i64, r.what, r.reason, at],
        ),
        Record::Frame(r) => put(
            "INSERT OR REPLACE INTO frame VALUES (?1, ?2, ?3, ?4, ?5)",
            params![r.sample, r.step as i64, r.run, at, json(r)],
        ),
        Record::Actor(_) | Record::Overview(_) => Ok(()),
    }
}

/// Numbers the waiting runs from 1 in their new order. Runs that are queued later get higher numbers.
fn queue(tx: &Transaction<'_>, change: &QueueChange) -> Result<(), StoreError> {
    match &change.change {
        QueueAction::Order { runs } => {
            let mut put = tx.prepare_cached("UPDATE queue SET place = ?2 WHERE run = ?1")?;
            for (place, run) in runs.iter().enumerate() {
                put.execute(params![run, place as i64 + 1])?;
            }
        }
        QueueAction::Cancel { run, reason } => {
            tx.prepare_cached("UPDATE queue SET cancelled = ?2 WHERE run = ?1")?
                .execute(params![run, reason])?;
        }
    }
    Ok(())
}

/// Replaces the row of each rank by its last report. Rows of ranks that the run no longer has are deleted.
fn ranks(tx: &Transaction<'_>, ranks: &StepRanks, at: i64) -> Result<(), StoreError> {
    tx.prepare_cached("DELETE FROM rank WHERE run = ?1 AND rank >= ?2")?
        .execute(params![ranks.run, ranks.ranks.len() as i64])?;
    let mut put = tx.prepare_cached(
        "INSERT OR REPLACE INTO rank VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    for (number, r) in ranks.ranks.iter().enumerate() {
        put.execute(params![
            ranks.run,
            number as i64,
            ranks.step as i64,
            r.device,
            r.host,
            i64::from(r.pid),
            r.memory as i64,
            r.peak as i64,
            r.device_memory as i64,
            r.device_peak as i64,
            finite(r.seconds),
            finite(r.wait_seconds),
            r.bytes as i64,
            r.restarts as i64,
            r.began_us,
            at
        ])?;
    }
    Ok(())
}

/// Writes the metrics of one step, and keeps the latest value of each metric in a table of its own.
fn metric(tx: &Transaction<'_>, metric: &Metric, at: i64) -> Result<(), StoreError> {
    if metric.values.is_empty() {
        return Ok(());
    }
    let run = number(tx, RUN_NUMBER, &metric.run)?;
    for (name, value) in &metric.values {
        let key = number(tx, NAME_NUMBER, name)?;
        let (step, value) = (metric.step as i64, finite(*value));
        tx.prepare_cached("INSERT OR REPLACE INTO metric VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![key, run, step, value, at])?;
        tx.prepare_cached(
            "INSERT INTO latest VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (run, key) DO UPDATE SET
             step = excluded.step, value = excluded.value, at_us = excluded.at_us WHERE excluded.step >= step",
        )?
        .execute(params![metric.run, key, step, value, at])?;
    }
    Ok(())
}

/// The statements with which [`number`] looks up or adds a word.
const NAME_NUMBER: [&str; 2] = [
    "SELECT id FROM metric_key WHERE name = ?1",
    "INSERT INTO metric_key (name) VALUES (?1)",
];
const RUN_NUMBER: [&str; 2] = [
    "SELECT id FROM run_key WHERE run = ?1",
    "INSERT INTO run_key (run) VALUES (?1)",
];

/// Returns the number of a word in metric rows; it is assigned at the first use.
fn number(tx: &Transaction<'_>, [find, make]: [&str; 2], word: &str) -> Result<i64, StoreError> {
    let known = tx
        .prepare_cached(find)?
        .query_row([word], |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    tx.prepare_cached(make)?.execute([word])?;
    Ok(tx.last_insert_rowid())
}

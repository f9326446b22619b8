//! Records of every kind, and the rows that a store has of them.

use demask_storage::query::{self, VIEWS};
use demask_storage::{Alert, Level, Metric, RankView, Record, Run, Steer, StepRanks};

pub(crate) fn records() -> Vec<Record> {
    let run = "r".to_owned();
    let steer = |applied| {
        Record::Steer(Steer {
            id: "c1".into(),
            run: "r".into(),
            by: "ann (cli)".into(),
            action: demask_storage::SteerAction::Set,
            key: Some("kl".into()),
            old: None,
            new: Some("0.1".into()),
            asked_step: 3,
            applied_step: applied,
        })
    };
    let ranks = |step, restarts| {
        let rank = |number| RankView {
            device: "cpu".into(),
            host: "x".into(),
            pid: 7 + number,
            memory: 1000,
            peak: 2000,
            seconds: 0.5,
            wait_seconds: if number == 0 { 0.25 } else { f64::NAN },
            bytes: 300,
            restarts,
            began_us: 5,
            ..RankView::default()
        };
        let ranks = (0..3 - restarts as u32).map(rank).collect();
        Record::Ranks(StepRanks {
            run: "r".into(),
            step,
            ranks,
        })
    };
    vec![
        Record::Run(Run {
            id: run.clone(),
            parent: None,
            parent_step: None,
            labels: Default::default(),
            profile: "p".into(),
            config: serde_json::json!({"seed": 1}),
            config_hash: "h".into(),
            seed: 1,
            host: "x".into(),
            version: "0".into(),
            generation: 0,
        }),
        Record::Metric(Metric {
            run: run.clone(),
            step: 1,
            values: vec![("train/loss".into(), 2.0)],
        }),
        Record::Metric(Metric {
            run: run.clone(),
            step: 2,
            values: vec![("train/loss".into(), 1.0)],
        }),
        ranks(1, 0),
        ranks(2, 1),
        steer(None),
        steer(Some(4)),
        Record::Alert(Alert {
            run,
            step: 1,
            level: Level::Warn,
            kind: "k".into(),
            message: "m".into(),
        }),
    ]
}

pub(crate) fn dump(path: &std::path::Path) -> Vec<String> {
    let skip = ["v_event"];
    let tables = VIEWS.iter().filter(|view| !skip.contains(view));
    tables
        .map(|view| {
            let mut rows = query::query(path, &format!("SELECT * FROM {view}"), 0).unwrap();
            // The times at which rows were written are left out of the comparison.
            let timed: Vec<usize> = (0..rows.columns.len())
                .filter(|&at| rows.columns[at].ends_with("_us"))
                .collect();
            for row in &mut rows.rows {
                for &at in &timed {
                    row[at] = serde_json::Value::Null;
                }
            }
            let mut lines: Vec<String> = rows.rows.iter().map(|row| format!("{view} {row:?}")).collect();
            lines.sort();
            lines.join("\n")
        })
        .collect()
}

pub(crate) fn begun(id: &str, name: Option<&str>) -> Record {
    let mut records = records();
    let Record::Run(mut run) = records.remove(0) else {
        unreachable!("the first record is a run")
    };
    run.id = id.to_owned();
    run.labels.name = name.map(str::to_owned);
    Record::Run(run)
}

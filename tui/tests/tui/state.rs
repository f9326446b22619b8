//! One fixed state of a dashboard, the messages that it is made of, and what it shows.

use demask_storage::{
    ActorState, ActorView, Alert, DeviceView, Envelope, Eval, Frame, GateVerdict, Knob, Level, Metric,
    Overview, Record, Reply, RolloutSample, StageView, TrainUse,
};
use demask_tui::{Dashboard, Effect, Model, Msg, render_to_string, update};

pub(crate) fn event(record: Record) -> Msg {
    Msg::Event(Box::new(Envelope {
        seq: 1,
        at_us: 0,
        record,
    }))
}

fn stage(name: &str, kind: &str, done: u64, total: u64) -> StageView {
    StageView {
        name: name.into(),
        kind: kind.into(),
        done,
        total,
    }
}

pub(crate) fn overview() -> Overview {
    Overview {
        run: "01a2".into(),
        profile: "tabletop".into(),
        state: demask_storage::RunState::Running,
        detail: String::new(),
        step: 172,
        total_steps: 213,
        stages: vec![
            stage("before", "evaluate", 1, 1),
            stage("cot", "finetune", 150, 150),
            stage("unigrpo", "align", 21, 60),
        ],
        stage: 2,
        tokens_per_s: 9134.0,
        eta_s: Some(300.0),
        elapsed_s: 400.0,
        devices: vec![DeviceView {
            name: "cpu".into(),
            compute: "bf16, AVX-512".into(),
            threads: 2,
            pid: 7,
            memory: 1_400_000_000,
            peak: 3_170_000_000,
            busy: 0.97,
        }],
        ranks: Vec::new(),
        knobs: vec![Knob {
            key: "kl".into(),
            value: 0.01,
            low: 0.0,
            high: 100.0,
            help: "weight of the penalty on leaving the reference policy".into(),
        }],
        last_checkpoint: Some(150),
    }
}

pub(crate) fn actor(name: &str, parent: &str, state: ActorState, doing: &str) -> Msg {
    event(Record::Actor(ActorView {
        name: name.into(),
        parent: parent.into(),
        state,
        detail: doing.into(),
        queue: (1, 4),
        restarts: u64::from(name == "scorer"),
        handled: 42,
        last_message: "Score".into(),
        last_at_us: 0,
        recent: vec![
            (1_000_000, "Score".into(), 2_300, "ok".into()),
            (3_000_000, "Score".into(), 1_200_000, "panicked: asked to".into()),
        ],
        answered_us: 4_200,
        deaths: match name {
            "scorer" => vec![(3_000_000, "panicked: asked to".into())],
            _ => vec![],
        },
    }))
}

pub(crate) fn eval(step: u64, suite: &str, value: f64, decision: &str) -> Msg {
    event(Record::Eval(Eval {
        run: "01a2".into(),
        step,
        checkpoint: "weights:1".into(),
        suite: suite.into(),
        metric: "accuracy".into(),
        value,
        low: value - 0.05,
        high: value + 0.05,
        n: 120,
        parts: vec![("counting".into(), value), ("position".into(), 0.5)],
        decision: decision.parse().ok(),
        gain: None,
    }))
}

pub(crate) fn sample(number: u64, total: f64, advantage: f64) -> Msg {
    event(Record::Sample(RolloutSample {
        id: format!("01a2/172/0/{number}"),
        run: "01a2".into(),
        step: 172,
        group: 0,
        number,
        example: "e".into(),
        modality: demask_storage::Modality::Draw,
        weights: 171,
        staleness: 0,
        prompt: "two red circles".into(),
        text: "large red circle left, small red circle top".into(),
        picture: None,
        parts: vec![("correct".into(), 1.0, 2.0), ("draw".into(), total / 4.0, 2.0)],
        total,
        advantage,
        trained: true,
        reference: String::new(),
        asked: None,
    }))
}

pub(crate) fn verdict(subject: &str, gate: &str, passed: bool, reason: &str) -> Msg {
    event(Record::Verdict(GateVerdict {
        subject: subject.into(),
        run: "01a2".into(),
        round: 1,
        gate: gate.parse().unwrap(),
        passed,
        reason: reason.into(),
        source: "reasoner".into(),
        count: 1,
    }))
}

pub(crate) fn used(step: u64, subjects: &[&str]) -> Msg {
    event(Record::TrainUse(TrainUse {
        run: "01a2".into(),
        step,
        stage: "cot".into(),
        subjects: subjects.iter().map(ToString::to_string).collect(),
    }))
}

pub(crate) fn frame(step: u64, tokens: [&str; 4]) -> Msg {
    event(Record::Frame(Frame {
        run: "01a2".into(),
        sample: "s".into(),
        origin: "rollout".into(),
        prompt: "a red circle".into(),
        kind: "picture".into(),
        step,
        steps: 8,
        tokens: tokens.map(str::to_owned).to_vec(),
        confidence: vec![250, 180, 90, 20],
        grid: 2,
        picture: None,
    }))
}

pub(crate) fn state() -> Dashboard {
    let mut model = Dashboard::from(Model {
        no_color: true,
        ..Model::default()
    });
    let mut all = vec![
        Msg::Connected,
        Msg::Reply(Box::new(Reply::Status(Box::new(overview())))),
        actor("supervisor", "", ActorState::Idle, ""),
        actor("trainer", "supervisor", ActorState::Busy, "unigrpo 21/60"),
        actor("scorer", "supervisor", ActorState::Waiting, "group 3"),
        actor("engine/0", "supervisor", ActorState::Busy, "policy"),
        eval(0, "tabletop-ask", 0.62, ""),
        eval(0, "tabletop-draw", 0.40, ""),
        eval(212, "tabletop-ask", 0.71, "promote"),
        eval(212, "tabletop-draw", 0.38, "hold"),
        sample(0, 2.5, 0.9),
        sample(1, 0.7, -0.9),
        verdict("a", "verify", true, ""),
        verdict("b", "verify", true, ""),
        verdict("c", "verify", false, "the result is wrong"),
        verdict("b", "dedup", false, "an equal trace was accepted before"),
        frame(0, ["17", "", "", ""]),
        frame(1, ["17", "203", "", "9"]),
        used(3, &["a", "b"]),
        event(Record::Alert(Alert {
            run: "01a2".into(),
            step: 9,
            level: Level::Warn,
            kind: "not_finite".into(),
            message: "back to the last checkpoint, learning rate halved".into(),
        })),
    ];
    all.extend((0..60).map(|step| {
        event(Record::Metric(Metric {
            run: "01a2".into(),
            step,
            values: vec![
                ("train/loss".into(), 3.0 - 0.04 * step as f64),
                ("reward/total".into(), (step as f64 / 9.0).sin()),
            ],
        }))
    }));
    for msg in all {
        update(&mut model, msg);
    }
    model
}

pub(crate) fn press(model: &mut Dashboard, keys: &[&str]) -> Vec<Effect> {
    keys.iter()
        .flat_map(|key| update(model, Msg::Key((*key).to_owned())))
        .collect()
}

pub(crate) fn shown(model: &Dashboard) -> String {
    render_to_string(model, 100, 30).unwrap()
}

pub(crate) fn rows(columns: &[&str], rows: &[&[&str]]) -> Msg {
    let cell = |cell: &&str| match serde_json::from_str::<serde_json::Number>(cell) {
        Ok(number) => serde_json::Value::Number(number),
        Err(_) => serde_json::Value::String((*cell).to_owned()),
    };
    Msg::Reply(Box::new(Reply::Rows {
        columns: columns.iter().map(ToString::to_string).collect(),
        rows: rows.iter().map(|row| row.iter().map(cell).collect()).collect(),
    }))
}

//! Presentation of runs: `demask plot`, `demask report`, and the views behind them.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Command, Record, Reply};
use demask_tests::profile::smoke;
use demask_tests::runs::{start, wait_for};
use demask_tests::store::rows_as_json;
use demask_tests::{Place, SMOKE, said};
use serde_json::{Value, json};

/// Makes a home with a run in which a knob was turned; returns it with the run's id.
fn steered() -> (Place, String) {
    let mut place = Place::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = runtime.block_on(async {
        let mut client = place.serve().await;
        let run = start(&mut client, SMOKE).await;
        let set = Command::Set {
            key: "kl".into(),
            value: 0.25,
        };
        let answer = client.ask(set).await.unwrap();
        assert!(matches!(answer, Reply::Accepted { .. }), "{answer:?}");
        client.ask(Command::Subscribe { since: 1 }).await.unwrap();
        wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
            .await
            .unwrap();
        run
    });
    assert_eq!(place.terminate(), Some(0));
    (place, run)
}

#[test]
fn runs_are_drawn_over_each_other_and_written_as_a_page() {
    let (place, run) = steered();
    let second = place.run_profile(&{
        let file = place.path().join("second.toml");
        std::fs::write(&file, smoke(&["seed=4"])).unwrap();
        file
    });
    assert!(second.status.success(), "{}", said(&second));
    charts(&place, &run);
    page(&place, &run);
    views(&place, &run);
    assert!(place.run(&["daemon", "stop"]).status.success());
}

fn charts(place: &Place, run: &str) {
    let svg = place.path().join("loss.svg");
    let file = svg.to_str().unwrap();
    let asked = [
        "plot",
        "latest",
        run,
        "--metric",
        "rate/step_seconds",
        "--metric",
        "train/loss",
        "--output",
        file,
        "--smooth",
        "0.5",
    ];
    let out = place.run(&asked);
    assert!(out.status.success(), "{}", said(&out));
    let text = std::fs::read_to_string(&svg).unwrap();
    let end = run.rsplit('-').next().unwrap();
    for words in [
        "train/loss",
        "rate/step_seconds",
        "kl=0.25",
        &format!("smoke {end}"),
        "step",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(
        text.starts_with("<svg")
            && text.trim_end().ends_with("</svg>")
            && text.matches("<polyline").count() > 20
    );
    // Existing files are overwritten only on request.
    let again = place.run(&asked);
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(said(&again).contains("loss.svg: the file exists already") && said(&again).contains("--force"));
    assert_eq!(std::fs::read_to_string(&svg).unwrap(), text);
    let forced: Vec<&str> = asked
        .into_iter()
        .chain(["--force", "--log", "--x", "time"])
        .collect();
    assert!(place.run(&forced).status.success());
    let by_time = std::fs::read_to_string(&svg).unwrap();
    assert!(by_time.contains("seconds") && by_time != text);
    let png = place.path().join("loss.png");
    let out = place.run(&[
        "plot",
        run,
        "--output",
        png.to_str().unwrap(),
        "--size",
        "600x260",
    ]);
    assert!(out.status.success(), "{}", said(&out));
    let picture = image::open(&png).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (600, 260));
    // A blue line on a white background, and dark text.
    let has = |colour: [u8; 3]| picture.pixels().any(|pixel| pixel.0 == colour);
    assert!(
        has([255, 255, 255])
            && has([0, 114, 178])
            && picture
                .pixels()
                .any(|pixel| pixel.0.iter().all(|part| *part < 90))
    );
    // Without a file, the chart is text, as in a terminal without colours.
    let drawn = place.run(&["plot", run, "latest", "--metric", "train/loss"]);
    let text = said(&drawn);
    assert!(
        drawn.status.success() && text.contains('┤') && text.contains('×') && text.contains("step"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
    let values = place.run(&["plot", run, "--json", "--smooth", "0.9"]);
    let values: Value = serde_json::from_slice(&values.stdout).unwrap();
    assert_eq!(
        (&values[0]["run"], &values[0]["metric"]),
        (&json!(run), &json!("train/loss"))
    );
    let points = values[0]["points"].as_array().unwrap();
    let stored = rows_as_json(
        place,
        &format!("SELECT count(*) AS n FROM v_metric WHERE run = '{run}' AND name = 'train/loss'"),
    );
    assert_eq!(stored[0]["n"], points.len());
    assert!(
        points
            .iter()
            .all(|point| point["smoothed"].is_number() && point["seconds"].as_f64().unwrap() >= 0.0)
    );
    for (arguments, code, words) in [
        (&["plot", run, "--metric", "nothing/*"][..], 1, "there are"),
        (
            &["plot", run, "--output", "chart.pdf"],
            2,
            "expected a name that ends in .svg or .png",
        ),
        (&["plot", "no-such-run"], 1, "no run has the name 'no-such-run'"),
        (
            &["plot", run, "--smooth", "1"],
            2,
            "expected a number from 0 to 0.999",
        ),
        (
            &["plot", run, "--output", "nowhere/chart.svg"],
            1,
            "no such folder",
        ),
    ] {
        let out = place.run(arguments);
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {}", said(&out));
        assert!(said(&out).contains(words), "{arguments:?}: {}", said(&out));
    }
}

fn page(place: &Place, run: &str) {
    let file = place.path().join("run.html");
    let name = file.to_str().unwrap();
    let out = place.run(&["report", run, "--output", name]);
    assert!(out.status.success(), "{}", said(&out));
    let page = std::fs::read_to_string(&file).unwrap();
    for words in [
        run,
        "<svg",
        "train/loss",
        "reward_part/length",
        "tabletop-draw",
        "src=\"data:image/png;base64,",
        "<td>0.25</td>",
        "UniGRPO".to_lowercase().as_str(),
        "&quot;text_vocabulary&quot;: 400",
        "every value",
        "rollout",
        "right:",
    ] {
        assert!(page.contains(words), "{words}");
    }
    // The page runs no script and loads nothing.
    for mark in [
        "<script",
        "http://",
        "https://",
        "<link",
        "javascript:",
        "@import",
    ] {
        let allowed = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!allowed.contains(mark), "{mark}");
    }
    let again = place.run(&["report", run, "--output", name]);
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(
        place
            .run(&["report", run, "--output", name, "--force"])
            .status
            .success()
    );
}

fn views(place: &Place, run: &str) {
    let of = |sql: &str| rows_as_json(place, &sql.replace("RUN", run));
    // One row, and one metric, for each part of each reward.
    let whole = of(
        "SELECT abs(total - (SELECT sum(value * weight) FROM v_reward WHERE v_reward.sample = v_rollout.sample)) AS off \
                    FROM v_rollout WHERE run = 'RUN'",
    );
    let whole = whole.as_array().unwrap();
    assert!(
        !whole.is_empty() && whole.iter().all(|row| row["off"].as_f64().unwrap() < 1e-9),
        "{whole:?}"
    );
    let metrics = of(
        "SELECT count(*) AS n FROM v_latest WHERE run = 'RUN' AND name IN ('reward_part/length', 'reward_part/correct')",
    );
    assert_eq!(metrics[0]["n"], 2);
    // The right answer, and the picture that was asked about.
    let unknown = of("SELECT count(*) AS n FROM v_rollout WHERE reference = ''");
    assert_eq!(unknown[0]["n"], 0);
    let asked = of("SELECT DISTINCT modality, asked IS NOT NULL AS shown FROM v_rollout ORDER BY 1");
    for row in asked.as_array().unwrap() {
        assert_eq!(row["shown"], u8::from(row["modality"] == "ask"), "{row}");
    }
    // What was trained on can be read and viewed, and the prompt of a rollout is an example with its source.
    let told = of("SELECT count(*) AS n FROM v_lineage WHERE run = 'RUN' AND text IS NULL");
    assert_eq!(told[0]["n"], 0);
    let pictures = of(
        "SELECT picture FROM v_lineage WHERE run = 'RUN' AND source = 'tabletop' AND picture IS NOT NULL LIMIT 1",
    );
    let hash = pictures[0]["picture"].as_str().unwrap();
    let blob = place.home().blobs().join(&hash[..2]).join(&hash[2..]);
    assert!(image::load_from_memory(&std::fs::read(blob).unwrap()).is_ok());
    let lost = of("SELECT count(*) AS n FROM v_rollout WHERE example NOT IN (SELECT id FROM example)");
    assert_eq!(lost[0]["n"], 0);
}

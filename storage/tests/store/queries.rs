//! Queries: curves of metrics, and the limits of a query.

use demask_storage::query::{self, curves};
use demask_storage::{Metric, Record, Writer};

use crate::rows::records;

/// A curve of many points is thinned by SQL to means over ranges of steps, whose step and value are means of
/// the same points. Metrics without finite values are left out, knob changes are returned as marks, and run
/// ids are quoted.
#[test]
fn curves_are_thinned_by_the_question_and_knobs_that_were_turned_are_marks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut writer = Writer::open(&path).unwrap();
    writer.append(&records(), 1_000_000).unwrap();
    let many = (10..1010_u64).map(|step| {
        Record::Metric(Metric {
            run: "r".into(),
            step,
            values: vec![
                ("train/loss".into(), step as f64),
                ("train/it's".into(), f64::NAN),
            ],
        })
    });
    writer.append(&many.collect::<Vec<_>>(), 3_000_000).unwrap();
    let runs = ["r".to_owned()];
    let whole = curves::curves(&path, &runs, &["train/*".to_owned(), "*loss".to_owned()]).unwrap();
    assert_eq!(
        whole.len(),
        1,
        "a metric that fits twice is there once, one without values not at all"
    );
    assert_eq!(whole[0].points.len(), 1002);
    assert_eq!((whole[0].points[2].step, whole[0].points[2].seconds), (10.0, 2.0));
    let sql = curves::points_sql(&runs, &["train/loss".to_owned()], Some(100));
    let thin = curves::curves_of(&curves::texts(&query::query(&path, &sql, 0).unwrap()));
    assert!(
        (90..=130).contains(&thin[0].points.len()),
        "{}",
        thin[0].points.len()
    );
    let middle = &thin[0].points[50];
    assert!(
        (middle.step - middle.value).abs() < 1e-9,
        "means of the same steps: {middle:?}"
    );
    let turns = curves::turns(&path, &runs).unwrap();
    assert_eq!(
        (turns.len(), turns[0].step, turns[0].words.as_str()),
        (1, 4.0, "kl=0.1")
    );
    assert_eq!(
        curves::metrics(&path, &runs).unwrap(),
        ["train/it's", "train/loss"]
    );
    assert!(
        curves::curves(&path, &["x' OR '1".to_owned()], &["*".to_owned()])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn l9_a_query_is_held_to_its_limits_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(Writer::open(&path).unwrap());
    let refused = |sql: &str| query::query(&path, sql, 0).unwrap_err().to_string();
    let big = refused("SELECT printf('%.100000000c', 'x')");
    assert!(big.contains("a value may have at most 16 MiB"), "{big}");
    let like = refused(&format!("SELECT 'x' LIKE '{}'", "%x".repeat(600)));
    assert!(like.contains("pattern"), "{like}");
    assert_eq!(
        query::query(&path, "SELECT 'x' LIKE '%x'", 0).unwrap().rows,
        [[serde_json::json!(1)]]
    );
    let megabyte = "SELECT printf('%.1000000c', 'x') UNION ALL SELECT printf('%.1000000c', 'y')";
    let alone = |largest| query::query_alone(&path, megabyte, 0, largest);
    assert_eq!(alone(3 << 20).unwrap().rows.len(), 2);
    let large = alone(1 << 20).unwrap_err().to_string();
    assert!(large.contains("larger than 1 MiB"), "{large}");
    // A table and JSON print the name of a column with every row.
    let named = format!(
        "SELECT 1 AS \"{0}\" UNION ALL SELECT 2 UNION ALL SELECT 3",
        "x".repeat(500_000)
    );
    let alone = |largest| query::query_alone(&path, &named, 0, largest);
    assert_eq!(alone(2 << 20).unwrap().rows.len(), 3);
    let large = alone(1 << 20).unwrap_err().to_string();
    assert!(large.contains("larger than 1 MiB"), "{large}");
}

/// A model may write any character; a table shows the control characters among them and obeys none.
#[test]
fn l9_a_table_shows_control_characters_instead_of_sending_them_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(Writer::open(&path).unwrap());
    let sql = "SELECT 'a' || char(27) || '[2J' || char(13) || char(10) || char(155) || 'z' AS text";
    let rows = query::query(&path, sql, 0).unwrap();
    assert_eq!(rows.print(query::Format::Table), "text\na␛[2J␍⏎\u{fffd}z\n");
    assert!(
        rows.print(query::Format::Csv).contains('\u{1b}'),
        "other formats keep the text"
    );
}

//! Input on Demask's own sockets: an engine's frames, the daemon's lines, SQL.

use std::io::Cursor;

use demask_api::join::{DaemonWord, Greeting};
use demask_api::{Answer, Request, wire};
use demask_storage::{ClientMessage, ServerMessage, query, store};
use demask_tests::fuzz::{Door, room};

fn frame(body: &str) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes(), body.as_bytes()].concat()
}

/// Hostile frames of the engine's protocol, decoded as requests and as answers, and as the words of engines that join.
#[test]
fn frames() {
    let seeds = [
        r#"{"ask":"hello","protocol":9}"#,
        r#"{"ask":"load","model":{"from":"checkpoint","dir":"/x","resume":false}}"#,
        r#"{"ask":"save","dir":"/x","attach":{"a":"b"},"optimizer":true}"#,
        r#"{"answer":"loaded","step":3,"parameters":12}"#,
        r#"{"answer":"saved","hash":"00","bytes":18446744073709551615}"#,
        r#"{"token":"00","purpose":{"line":{"session":1,"line":2}}}"#,
        r#"{"leave":{"farewell":"again","why":"x"}}"#,
    ];
    Door {
        name: "frames",
        inputs: 10_000,
        seeds: seeds.map(frame).to_vec(),
        words: &[
            b"{",
            b"[",
            b"\xff\xff\xff\x0f",
            b"\0\0\0\0",
            b"null",
            b"\"ask\":\"sample\"",
            b"\"ask\":\"shutdown\"",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        let mut stream = Cursor::new(bytes);
        while let Ok(Some(body)) = wire::read_frame(&mut stream) {
            wire::decode::<Request>(&body).ok();
            wire::decode::<Answer>(&body).ok();
            wire::decode::<Greeting>(&body).ok();
            wire::decode::<DaemonWord>(&body).ok();
        }
    });
}

/// Hostile lines of the control protocol, decoded as messages of clients and of the daemon.
#[test]
fn lines_of_the_daemon() {
    let seeds = [
        r#"{"id":"1","protocol":2,"by":"a","command":{"command":"status"}}"#,
        r#"{"id":"2","protocol":2,"by":"a","command":{"command":"set","key":"learning_rate","value":1e-3}}"#,
        r#"{"id":"3","protocol":2,"by":"a","command":{"command":"subscribe","since":0}}"#,
        r#"{"reply":{"id":"1"}}"#,
    ];
    Door {
        name: "control",
        inputs: 10_000,
        seeds: seeds.map(|seed| seed.as_bytes().to_vec()).to_vec(),
        words: &[
            b"{",
            b"[",
            b"\"command\":\"run\"",
            b"18446744073709551616",
            b"\\u0000",
            b"\n",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        serde_json::from_slice::<ClientMessage>(bytes).ok();
        serde_json::from_slice::<ServerMessage>(bytes).ok();
    });
}

/// Hostile SQL on the read-only query interface: no query changes the store or exceeds the limits.
#[test]
fn sql() {
    let room = room();
    let path = room.path().join("demask.db");
    drop(store::open(&path).unwrap());
    let seeds = [
        "SELECT * FROM v_run ORDER BY 1 LIMIT 5",
        "SELECT name, count(*), avg(value) FROM v_metric GROUP BY name HAVING count(*) > 1",
        "WITH a AS (SELECT 1 AS x UNION ALL SELECT 2) SELECT x, printf('%5d', x), json_object('a', x) FROM a",
        "SELECT substr('abc', 1, 2) || replace('aaa', 'a', 'bb'), 'x' LIKE '%x%', hex(zeroblob(10)) FROM v_event",
    ];
    Door {
        name: "sql",
        inputs: 10_000,
        seeds: seeds.map(|seed| seed.as_bytes().to_vec()).to_vec(),
        words: &[
            b"DELETE FROM run",
            b"ATTACH 'x' AS y",
            b"PRAGMA writable_schema=1",
            b"; DROP TABLE run;",
            b"load_extension('x')",
            b"zeroblob(1000000000)",
            b"printf('%1000000000d', 1)",
            b"'%a%a%a%a%a%a%a%a'",
            b"(",
            b"NOT ",
            b"--",
            b"/*",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        query::query(&path, &String::from_utf8_lossy(bytes), 100).ok();
    });
    let rows = query::query(&path, "SELECT count(*) FROM sqlite_master WHERE name = 'run'", 1).unwrap();
    assert_eq!(
        rows.rows,
        [[serde_json::json!(1)]],
        "no query took the tables away"
    );
}

/// One row whose cells share a value in SQLite, which a result would copy for each of them.
#[test]
fn sql_of_one_wide_row() {
    let room = room();
    let path = room.path().join("demask.db");
    drop(store::open(&path).unwrap());
    let columns = vec!["max(x)"; 32].join(", ");
    let sql = format!("SELECT {columns} FROM (SELECT printf('%.15000000c', 'x') AS x)");
    Door {
        name: "sql-wide-row",
        inputs: 1,
        seeds: vec![sql.into_bytes()],
        words: &[b"max(x), "],
        spare: 0,
    }
    .tried(|bytes| {
        query::query(&path, &String::from_utf8_lossy(bytes), 1).ok();
    });
}

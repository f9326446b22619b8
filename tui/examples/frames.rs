//! Measures the milliseconds of the dashboard's frames on a filled store. Every screen is shown, its queries are
//! answered by the store as the daemon answers them, and it is drawn. `tests/benches/frames.sh` makes the store
//! and calls it.
//!
//!     cargo run --release -p demask-tui --example frames -- HOME/demask.db [COLUMNS, default 200] [ROWS, default 50]
//!
//! A frame is what is drawn after an event: from the state to characters, without the wait for the terminal. An
//! answer is the time in which the store answers all queries of a key; frames are drawn meanwhile.
#![allow(missing_docs)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use demask_storage::{Command, Reply, query};
use demask_tui::{Dashboard, Effect, Msg, render_to_string, update};

/// Number of frames of each screen.
const FRAMES: usize = 40;
/// The keys of the screens. The newest run is opened on the last one first.
const SCREENS: [&str; 10] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let database = arguments.next().ok_or("which database file?")?;
    let mut number = |usual: u16| arguments.next().map_or(Ok(usual), |text| text.parse());
    let size = (number(200)?, number(50)?);
    let mut board = Dashboard::default();
    update(&mut board, Msg::Connected);
    update(&mut board, Msg::Size(size.0, size.1));
    let database = Path::new(&database);
    for key in ["0", "enter"] {
        let answered = press(&mut board, key, database)?;
        println!("{key:>5}: answered in {answered:.1} ms");
    }
    let mut worst: f64 = 0.0;
    for key in SCREENS {
        let answered = press(&mut board, key, database)?;
        // Simulates a user who scrolls through the list, and on Curves from one metric to the next.
        let mut frames = Vec::new();
        let mut asked: f64 = 0.0;
        for _ in 0..FRAMES {
            asked = asked.max(press(&mut board, "down", database)?);
            let began = Instant::now();
            std::hint::black_box(render_to_string(&board, size.0, size.1)?);
            frames.push(1000.0 * began.elapsed().as_secs_f64());
        }
        frames.sort_by(f64::total_cmp);
        let (median, last) = (frames[FRAMES / 2], frames[FRAMES - 1]);
        worst = worst.max(last);
        println!(
            "screen {key}: frame {median:.2} ms, the slowest of {FRAMES} {last:.2}; shown: answered in {answered:.1} ms, down: in {asked:.1} ms at most"
        );
    }
    println!("the slowest frame {worst:.2} ms");
    Ok(())
}

/// Presses a key and returns the milliseconds until all its queries are answered and taken in.
fn press(board: &mut Dashboard, key: &str, database: &Path) -> Result<f64, Box<dyn Error>> {
    let began = Instant::now();
    let mut effects = update(board, Msg::Key(key.to_owned()));
    while let Some(effect) = effects.pop() {
        let Effect::Ask(Command::Query { sql, limit }) = effect else {
            continue;
        };
        let rows = query::query(database, &sql, limit)?;
        let (columns, rows) = (rows.columns, rows.rows);
        let reply = Reply::Rows { columns, rows };
        effects.extend(update(board, Msg::Reply(Box::new(reply))));
    }
    Ok(1000.0 * began.elapsed().as_secs_f64())
}

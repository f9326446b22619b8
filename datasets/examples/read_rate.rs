//! Measures how fast a format is read. `read_rate KIND PATH` prints rows and seconds, for
//! `tests/benches/read_rate.py`.

use std::path::Path;
use std::time::Instant;

use demask_datasets::example::Split;
use demask_datasets::formats::row::{KeptColumns, Origin};
use demask_datasets::source_kind::SourceKind;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, path] = &arguments[..] else {
        return Err("expected KIND PATH".into());
    };
    let reader = SourceKind::find(kind)
        .and_then(|kind| kind.reader())
        .ok_or("a kind that is read")?;
    let origin = Origin {
        source: "own".into(),
        licence: String::new(),
        split: Split::Train,
        pixels: 32,
        columns: std::collections::BTreeMap::new(),
        keep: KeptColumns::Nothing,
    };
    let began = Instant::now();
    let mut rows = 0_u64;
    for row in reader.open(Path::new(path), origin)? {
        row.map_err(|bad| bad.to_string())?;
        rows += 1;
    }
    println!("{rows} {}", began.elapsed().as_secs_f64());
    Ok(())
}

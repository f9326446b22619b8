//! Samples a second, of several samplers in turn: on a suite's items, or on the rows of a checkpoint folder as rivals
//! (`tests/benches/sample_rate.py`) are given them. `tests/benches/sample_rate.sh` and `tests/benches/rivals.sh` have the figures of the log.
//!
//! ```text
//! sample_rate SUITE ITEMS BATCH[,BATCH…] LENGTH DRAWS…
//! sample_rate folder DIR [FLAGS] SAMPLER…
//! ```
//!
//! `course.rs` and `folder.rs` say what the words mean.

mod course;
mod folder;
mod options;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [word, rest @ ..] if word == "folder" => folder::run(&options::Options::parse(rest)?).await,
        [suite, items, batches, length, samplers @ ..] => {
            course::run(suite, items.parse()?, batches, length.parse()?, samplers).await
        }
        _ => anyhow::bail!(
            "expected SUITE ITEMS BATCH[,BATCH…] LENGTH DRAWS…, or {}",
            options::USAGE
        ),
    }
}

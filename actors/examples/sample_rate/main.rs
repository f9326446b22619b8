//! Measures samples per second of several samplers in turn, on a suite's items or on rows of a checkpoint folder.
//! Rivals get the same rows (`tests/benches/sample_rate.py`). `tests/benches/sample_rate.sh` and
//! `tests/benches/rivals.sh` produce the figures of the log.
//!
//! ```text
//! sample_rate SUITE ITEMS BATCH[,BATCH…] LENGTH DRAWS…
//! sample_rate folder DIR [FLAGS] SAMPLER…
//! ```
//!
//! `course.rs` and `folder.rs` describe the arguments.

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

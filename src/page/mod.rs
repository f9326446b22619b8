//! A run as one HTML page for archiving and sending. It has no script, loads nothing, and embeds its pictures.
//!
//! `html.rs` has the building blocks, `sections.rs` the measurements, and `samples.rs` the model's outputs with
//! pictures.
//!
//! Not here: the drawing of curves (`figure`).

mod html;
mod samples;
mod sections;

use std::fmt::Write as _;

use demask_actors::home::Home;
use demask_storage::Blobs;
use demask_storage::query::{self, Rows};

use html::{escaped, text};

/// The subject of a page.
pub struct RunPage<'a> {
    /// Home of the store.
    pub home: &'a Home,
    /// Id of the run.
    pub run: &'a str,
    /// Smoothing weight of the past in the curves.
    pub smooth: f64,
    /// Number of samples and of items of each kind.
    pub samples: usize,
}

impl RunPage<'_> {
    /// Returns the rows of a SELECT.
    ///
    /// # Errors
    /// Any error of the store.
    fn rows(&self, sql: &str) -> anyhow::Result<Rows> {
        Ok(query::query(&self.home.database(), sql, 0)?)
    }

    fn blobs(&self) -> Blobs {
        Blobs::new(self.home.blobs())
    }
}

/// Style sheet for light and dark screens and for print.
const LOOKS: &str = "
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #8886 }
table { border-collapse: collapse; font-size: .88rem } th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #8886 } td.number { text-align: right; font-variant-numeric: tabular-nums }
svg { max-width: 100%; height: auto; background: #fff } pre { overflow-x: auto; font-size: .8rem; background: #8881; padding: .8rem }
.cards { display: flex; flex-wrap: wrap; gap: .8rem } .card { width: 14.5rem; border: 1px solid #8886; padding: .6rem; font-size: .85rem }
.card img { width: 6rem; image-rendering: pixelated } .wrong { color: #c33 } .right { color: #2a7 } .quiet { opacity: .65 }
.scroll { overflow-x: auto } @media print { .card { break-inside: avoid } }
";

/// Builds the whole page.
///
/// # Errors
/// Any error of the store; an error if a chart cannot be drawn.
pub fn page(subject: &RunPage) -> anyhow::Result<String> {
    let head = sections::head(subject)?;
    let parts = [
        ("Curves", sections::curves(subject)?),
        ("Benchmarks", sections::benchmarks(subject)?),
        ("Items of the last benchmarks", samples::items(subject)?),
        ("Samples", samples::rollouts(subject)?),
        ("Funnel", sections::funnel(subject)?),
        ("Steering", sections::steering(subject)?),
        (
            "Checkpoints and what they were trained on",
            sections::lineage(subject)?,
        ),
        ("Alerts", sections::alerts(subject)?),
        ("Configuration", sections::configuration(subject)?),
    ];
    let mut body = String::new();
    for (title, part) in parts {
        let part = if part.is_empty() {
            text("p", "quiet", "none")
        } else {
            part
        };
        writeln!(body, "<section>{}{part}</section>", text("h2", "", title)).ok();
    }
    let policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{LOOKS}</style></head>\n<body>\n{head}\n{body}\
         <footer class=\"quiet\">written by demask {}</footer>\n</body></html>\n",
        escaped(&format!("demask run {}", subject.run)),
        escaped(env!("CARGO_PKG_VERSION"))
    ))
}

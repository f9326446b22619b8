//! `demask plot`: curves of several runs over each other, in a file or on the terminal.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::bail;
use demask_actors::home::Home;
use demask_storage::query::curves::{self, Curve, smoothed};
use demask_tui::chart::draw::chart_text;
use demask_tui::chart::{Along, Chart, ChartStyle};
use serde_json::json;

use crate::args::{Across, Plot};
use crate::commands::experiment::runs;
use crate::figure::file;
use crate::terminal::print;

/// Lines of the terminal per metric, and the columns if their number is unknown.
const ROWS: u16 = 16;
const COLUMNS: u16 = 100;

/// Draws, writes or prints the curves.
///
/// # Errors
/// An error if there is no such run or no value of such a metric, or if the file cannot be written.
pub fn plot(home: &Home, options: &Plot) -> anyhow::Result<ExitCode> {
    let ending = match &options.output {
        Some(path) => Some(file::check_output(
            "--output",
            path,
            &["svg", "png"],
            options.force,
        )?),
        None => None,
    };
    let mut chosen: Vec<String> = Vec::new();
    for named in &options.runs {
        let run = runs::find(home, named)?;
        if !chosen.contains(&run) {
            chosen.push(run);
        }
    }
    let found = curves::curves(&home.database(), &chosen, &options.metrics)?;
    if options.values.json {
        return values(&found, options.smooth);
    }
    let style = ChartStyle {
        smooth: options.smooth,
        log: options.log,
        along: match options.x {
            Across::Step => Along::Step,
            Across::Time => Along::Time,
        },
        window: None,
    };
    let turns = curves::turns(&home.database(), &chosen)?;
    let names = runs::names(home)?;
    let named = |curve: &Curve| {
        names
            .get(&curve.run)
            .cloned()
            .unwrap_or_else(|| curve.run.clone())
    };
    let charts = Chart::each(&found, &turns, named, style);
    if charts.is_empty() {
        bail!(nothing(home, &chosen, options)?);
    }
    if charts.len() > file::MOST_CHARTS {
        bail!(
            "--metric {}: {} metrics match, expected at most {}; give fewer",
            options.metrics.join(" --metric "),
            charts.len(),
            file::MOST_CHARTS
        );
    }
    match (&options.output, &ending) {
        (Some(path), Some(ending)) => file::write_charts(path, ending, &charts, options.size)?,
        _ => show(&charts),
    }
    if let Some(path) = &options.output {
        println!(
            "{}: {} metrics of {} runs",
            path.display(),
            charts.len(),
            chosen.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints charts on the terminal, or as plain text into a pipe.
fn show(charts: &[Chart]) {
    let columns = terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| width.0);
    let coloured =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    for chart in charts {
        println!("{}", chart_text(chart, columns.clamp(40, 240), ROWS, coloured));
    }
}

fn values(found: &[Curve], smooth: f64) -> anyhow::Result<ExitCode> {
    let one = |curve: &Curve| {
        let raw: Vec<f64> = curve.points.iter().map(|point| point.value).collect();
        let points = curve.points.iter().zip(smoothed(&raw, smooth));
        let points = points.map(|(point, smooth)| {
            json!({ "step": point.step, "seconds": point.seconds, "value": point.value, "smoothed": smooth })
        });
        json!({ "run": curve.run, "metric": curve.name, "points": points.collect::<Vec<_>>() })
    };
    print::json(&found.iter().map(one).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

/// Says why there is nothing to draw, and which metrics exist.
fn nothing(home: &Home, chosen: &[String], options: &Plot) -> anyhow::Result<String> {
    let all = curves::metrics(&home.database(), chosen)?;
    let patterns = options.metrics.join(" --metric ");
    let above = if options.log { " above 0" } else { "" };
    let there = match all.is_empty() {
        true => "it has not recorded any metric yet".to_owned(),
        false => format!("there are {}", all.join(", ")),
    };
    Ok(format!(
        "--metric {patterns}: {} has no value{above} of such a metric; {there}",
        chosen.join(", ")
    ))
}

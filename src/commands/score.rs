//! `demask score`: grades recorded predictions as the benchmarks' own tools do, without a model or a daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use demask_rewards::scorers::{self, Aggregate, OfficialScorer};
use demask_storage::visible;
use serde_json::{Value, json};

use crate::args::ScoreArgs;
use crate::exit::{FAILED, UsageError};
use crate::terminal::print;

/// Longest line in bytes; a whole set of pictures is one line.
const LONGEST: u64 = 256 << 20;
/// Lines, and approximate bytes, that are scored at a time.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// Scores every line of a file, and prints the verdicts and their aggregate.
///
/// # Errors
/// An error if the scorer does not exist or the file cannot be read; with `--strict`, also if a line cannot be scored.
pub fn score(options: &ScoreArgs) -> anyhow::Result<ExitCode> {
    if options.list {
        return list(options.json);
    }
    let (Some(asked), Some(file)) = (&options.scorer, &options.file) else {
        return Err(UsageError("give a scorer and a file, or --list".to_owned()).into());
    };
    if !scorers::is_name(asked) {
        return Err(UsageError(format!(
            "there is no scorer {asked}; `demask score --list` lists the scorers"
        ))
        .into());
    }
    let mut lines = LineBatches::open(file)?;
    let mut out = Output::new(options.json);
    while let Some(batch) = lines.batch()? {
        for (number, scored) in scored(asked, batch, options.json) {
            if let (true, Err(error)) = (options.strict, &scored) {
                out.flush()?;
                anyhow::bail!("{}: line {number}: {error}", file.display());
            }
            out.line(number, scored, file)?;
        }
    }
    out.end()
}

/// The mark with which some editors begin a file of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A line with its number, from 1.
type Line = (usize, Vec<u8>);

/// The lines of a file or of standard input, in batches.
struct LineBatches {
    source: Box<dyn BufRead>,
    name: String,
    number: usize,
}

impl LineBatches {
    fn open(file: &Path) -> anyhow::Result<Self> {
        let source: Box<dyn BufRead> = if file == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
            Box::new(BufReader::with_capacity(1 << 20, opened))
        };
        Ok(Self {
            source,
            name: file.display().to_string(),
            number: 0,
        })
    }

    /// Returns the next lines that are not empty, with their numbers; `None` at the end.
    fn batch(&mut self) -> anyhow::Result<Option<Vec<Line>>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            let read = (&mut self.source).take(LONGEST + 1).read_until(b'\n', &mut line);
            if read.with_context(|| format!("reading {}", self.name))? == 0 {
                break;
            }
            self.number += 1;
            if line.len() as u64 > LONGEST {
                anyhow::bail!(
                    "{}: line {} has more than {} MiB",
                    self.name,
                    self.number,
                    LONGEST >> 20
                );
            }
            bytes += line.len();
            line.truncate(line.trim_ascii_end().len());
            let kept = line
                .strip_prefix(BYTE_ORDER_MARK)
                .unwrap_or(&line)
                .trim_ascii_start();
            let left_out = line.len() - kept.len();
            line.drain(..left_out);
            if !line.is_empty() {
                batch.push((self.number, line));
            }
        }
        let is_end = batch.is_empty() && bytes == 0;
        Ok((!is_end).then_some(batch))
    }
}

/// A scored line, as it is printed.
struct ScoredLine {
    scorer: &'static OfficialScorer,
    verdict: Value,
    printed: Vec<u8>,
}

/// A scored line, or the reason why it could not be scored.
type Scored = Result<ScoredLine, String>;

/// Scores a batch on all processors and returns the results in order.
fn scored(asked: &str, batch: Vec<Line>, json: bool) -> Vec<(usize, Scored)> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let share = batch.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = batch
            .chunks(share)
            .map(|part| {
                (
                    part,
                    scope.spawn(move || {
                        part.iter()
                            .map(|line| (line.0, caught(asked, line, json)))
                            .collect::<Vec<_>>()
                    }),
                )
            })
            .collect();
        let failed = |part: &[Line]| part.iter().map(|(number, _)| (*number, panicked())).collect();
        parts
            .into_iter()
            .flat_map(|(part, scored)| scored.join().unwrap_or_else(|_| failed(part)))
            .collect()
    })
}

/// Scores a line. A panic of its scorer is the error of this line only.
fn caught(asked: &str, line: &Line, json: bool) -> Scored {
    std::panic::catch_unwind(|| one(asked, line, json)).unwrap_or_else(|_| panicked())
}

fn panicked() -> Scored {
    Err("the scorer panicked".to_owned())
}

fn one(asked: &str, (number, line): &Line, json: bool) -> Scored {
    let line = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
    // The parser's own line number is always 1.
    let place = |error: serde_json::Error| error.to_string().replace(" at line 1 column ", " at column ");
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {}", place(error)))?;
    let (scorer, verdict) = scorers::score_line(asked, &value).map_err(|error| error.to_string())?;
    let printed = if json {
        with_verdict(&value, &verdict)?
    } else {
        let verdict = visible::line(&verdict.to_string());
        format!("{number:>6}  {}  {verdict}\n", scorer.name).into_bytes()
    };
    Ok(ScoredLine {
        scorer,
        verdict,
        printed,
    })
}

/// Writes a line with its verdict. A line with a kind gets the fields of its verdict beside its inputs too, as in the
/// recordings.
fn with_verdict(line: &Value, verdict: &Value) -> Result<Vec<u8>, String> {
    let Some(inputs) = line.as_object() else {
        return Err("expected a JSON object".to_owned());
    };
    let mut fields: BTreeMap<&str, &Value> = inputs
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    if let (true, Some(verdict)) = (inputs.contains_key("kind"), verdict.as_object()) {
        fields.extend(verdict.iter().map(|(name, value)| (name.as_str(), value)));
    }
    fields.insert("verdict", verdict);
    let mut printed = serde_json::to_vec(&fields).map_err(|error| error.to_string())?;
    printed.push(b'\n');
    Ok(printed)
}

/// The printed output: lines, then their aggregate.
struct Output {
    out: BufWriter<io::Stdout>,
    json: bool,
    aggregate: Aggregate,
    broken: usize,
    lines: usize,
}

impl Output {
    fn new(json: bool) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 18, io::stdout()),
            json,
            aggregate: Aggregate::default(),
            broken: 0,
            lines: 0,
        }
    }

    fn line(&mut self, number: usize, scored: Scored, file: &Path) -> anyhow::Result<()> {
        self.lines += 1;
        match scored {
            Ok(scored) => {
                self.aggregate.add(scored.scorer.name, &scored.verdict);
                self.out.write_all(&scored.printed)?;
            }
            Err(error) => {
                self.broken += 1;
                print::note(&format!("{}: line {number}: {error}", file.display()));
                if self.json {
                    serde_json::to_writer(&mut self.out, &json!({ "line": number, "error": error }))?;
                    writeln!(self.out)?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }

    /// Prints the aggregate: as a table, or with JSON as one line on standard error, so that standard output has only
    /// the lines.
    fn end(mut self) -> anyhow::Result<ExitCode> {
        if self.lines == 0 {
            anyhow::bail!("there is no line to score");
        }
        if !self.json {
            writeln!(self.out)?;
        }
        self.out.flush()?;
        if self.json {
            print::note(
                &json!({ "aggregate": self.aggregate.to_json(), "lines": self.lines, "broken": self.broken })
                    .to_string(),
            );
        } else {
            let rows: Vec<Vec<String>> = self
                .aggregate
                .rows()
                .map(|(scorer, path, mean, count)| {
                    vec![
                        scorer.to_owned(),
                        path.to_owned(),
                        format!("{mean:.6}"),
                        count.to_string(),
                    ]
                })
                .collect();
            print::table(&["scorer", "figure", "mean", "lines"], &rows)?;
        }
        if self.broken > 0 {
            print::note(&format!(
                "demask: {} of {} lines could not be scored",
                self.broken, self.lines
            ));
        }
        Ok(ExitCode::from(if self.broken > 0 { FAILED } else { 0 }))
    }
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let all: Vec<Value> = scorers::all()
            .map(|scorer| json!({ "family": scorer.family, "scorer": scorer.name, "official": scorer.official, "about": scorer.about }))
            .collect();
        print::json(&all)?;
    } else {
        let rows: Vec<Vec<String>> = scorers::all()
            .map(|scorer| {
                [scorer.family, scorer.name, scorer.about, scorer.official]
                    .map(str::to_owned)
                    .to_vec()
            })
            .collect();
        print::table(&["family", "scorer", "what it says", "equal to"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

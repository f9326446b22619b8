//! The results. They are appended to `results.jsonl` line by line, so that an interrupted run loses nothing.
//! The table and `results.json` are made from that file.
//!
//! A section's figures are between a line that marks its beginning and one that marks its end. Every line has
//! the key of the programs and the device. If a section was started several times, only its last start
//! counts.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::figure::{Figure, Verdict};
use crate::sections::SECTIONS;

/// The results of one set of programs on one device.
pub struct Results {
    folder: PathBuf,
    file: File,
    key: String,
    sections: Vec<Section>,
}

struct Section {
    name: String,
    figures: Vec<Figure>,
    done: bool,
}

impl Results {
    /// Reads the existing results for `key`, or ignores them if `fresh` is set.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub fn open(folder: &Path, key: &str, fresh: bool) -> anyhow::Result<Self> {
        let path = folder.join("results.jsonl");
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let file = File::options().create(true).append(true).open(&path);
        let mut results = Self {
            folder: folder.to_owned(),
            file: file.with_context(|| format!("{}", path.display()))?,
            key: key.to_owned(),
            sections: Vec::new(),
        };
        // A line that a crash has truncated does not parse and is skipped.
        let lines = known.lines().filter_map(|line| serde_json::from_str(line).ok());
        for line in lines.filter(|line: &Value| !fresh && line["key"] == key) {
            results.take(&line);
        }
        Ok(results)
    }

    /// Returns whether a section has been completed.
    pub fn is_done(&self, name: &str) -> bool {
        self.sections
            .iter()
            .any(|section| section.name == name && section.done)
    }

    /// Records that a section begins. Its earlier figures no longer count.
    ///
    /// # Errors
    /// Returns errors of the file system.
    pub fn begin(&mut self, section: &str) -> anyhow::Result<()> {
        self.write(json!({"section": section, "began": true}))
    }

    /// Records a figure.
    ///
    /// # Errors
    /// Returns errors of the file system.
    pub fn add(&mut self, figure: &Value) -> anyhow::Result<()> {
        self.write(figure.clone())
    }

    /// Records that a section has ended. A section that did not complete (`whole` is false) is repeated by
    /// the next run.
    ///
    /// # Errors
    /// Returns errors of the file system.
    pub fn end(&mut self, section: &str, whole: bool, took: Duration) -> anyhow::Result<()> {
        self.write(json!({"section": section, "ended": whole, "seconds": took.as_secs_f64()}))
    }

    fn write(&mut self, mut line: Value) -> anyhow::Result<()> {
        line["key"] = json!(self.key);
        writeln!(self.file, "{line}").context("results.jsonl")?;
        self.take(&line);
        Ok(())
    }

    fn take(&mut self, line: &Value) {
        let Some(name) = line["section"].as_str() else {
            return;
        };
        if line["began"] == true {
            self.sections.retain(|section| section.name != name);
            self.sections.push(Section {
                name: name.to_owned(),
                figures: Vec::new(),
                done: false,
            });
        }
        let Some(section) = self.sections.iter_mut().find(|section| section.name == name) else {
            return;
        };
        section.done |= line["ended"] == true;
        section.figures.extend(Figure::from_line(line));
    }

    /// Returns all figures in the order of the sections.
    pub fn figures(&self) -> Vec<&Figure> {
        let order = |name: &str| SECTIONS.iter().position(|section| section.name == name);
        let mut sections: Vec<&Section> = self.sections.iter().collect();
        sections.sort_by_key(|section| order(&section.name));
        sections.iter().flat_map(|section| &section.figures).collect()
    }

    /// Returns the table, with a last line that counts the verdicts.
    pub fn table(&self) -> String {
        let figures = self.figures();
        let mut rows =
            vec![["section", "figure", "", "asked", "aim", "reached", "unit", "note"].map(str::to_owned)];
        rows.extend(figures.iter().map(|figure| figure.row()));
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..8).map(width).collect();
        let line = |row: &[String; 8]| {
            let cells = row.iter().zip(&widths).enumerate();
            let cell = |(column, (text, &width)): (usize, (&String, &usize))| match column {
                3..=5 => format!("{text:>width$}"),
                _ => format!("{text:<width$}"),
            };
            let cells: Vec<String> = cells.map(cell).collect();
            cells.join("  ").trim_end().to_owned()
        };
        let lines: Vec<String> = rows.iter().map(line).collect();
        let counts = [Verdict::Ok, Verdict::Below, Verdict::Fail, Verdict::Skipped].map(|verdict| {
            let count = figures.iter().filter(|figure| figure.verdict == verdict).count();
            format!("{count} {}", verdict.word())
        });
        format!("{}\n{}", lines.join("\n"), counts.join(", "))
    }

    /// Writes `results.json` and `table.txt`.
    ///
    /// # Errors
    /// Returns errors of the file system.
    pub fn write_json(&self, seconds: f64) -> anyhow::Result<()> {
        let all = json!({"key": self.key, "seconds": seconds, "figures": self.figures()});
        let text = serde_json::to_string_pretty(&all)?;
        for (name, text) in [("results.json", text), ("table.txt", self.table())] {
            let path = self.folder.join(name);
            std::fs::write(&path, text + "\n").with_context(|| format!("{}", path.display()))?;
        }
        Ok(())
    }
}

impl Figure {
    fn from_line(line: &Value) -> Option<Self> {
        serde_json::from_value(line.clone()).ok()
    }

    fn row(&self) -> [String; 8] {
        let number = |number: Option<f64>| number.map_or(String::new(), short);
        [
            self.section.clone(),
            self.figure.clone(),
            self.verdict.word().to_owned(),
            number(self.asked),
            number(self.aim),
            number(self.reached),
            self.unit.clone(),
            self.note.clone(),
        ]
    }
}

/// Formats a number with three significant digits, or all digits of the integer part.
fn short(number: f64) -> String {
    let size = number.abs();
    match size {
        _ if size != 0.0 && size < 1e-2 => format!("{number:.1e}"),
        _ if size >= 100.0 => format!("{number:.0}"),
        _ if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

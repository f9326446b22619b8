//! The plan of a study: its file with settings and seeds, and the runs that follow from them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use demask_actors::home::Home;
use demask_actors::profile::{Profile, shipped};
use demask_api::{bounded_file, limits};
use demask_storage::{Labels, RunRequest};
use serde::Deserialize;
use toml::{Table, Value};

use crate::commands::experiment::request::{self, Start, usage};
use crate::commands::experiment::runs::series::Which;

/// Most runs of a study.
const MOST: usize = 10_000;

/// The file of a study.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    name: Option<String>,
    profile: String,
    seeds: Vec<u64>,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default)]
    value: Which,
    #[serde(default)]
    from_scratch: bool,
    from: Option<String>,
    #[serde(default)]
    set: Table,
    #[serde(default)]
    grid: Table,
    #[serde(default, rename = "setting")]
    settings: Vec<Setting>,
}

/// A setting in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    name: String,
    #[serde(default)]
    set: Table,
}

/// A study with its runs: settings in the order of the file, and the seeds of each.
pub struct StudyPlan {
    /// Name of the study.
    pub name: String,
    /// Names of the settings. The others are compared with the first.
    pub settings: Vec<String>,
    /// Patterns of the values to compare; without patterns, all except rates.
    pub metrics: Vec<String>,
    /// The number of a value that represents a run.
    pub value: Which,
    /// Runs of the study.
    pub runs: Vec<StudyRun>,
}

/// A setting with a seed.
pub struct StudyRun {
    /// Name of the setting.
    pub setting: String,
    /// The seed.
    pub seed: u64,
    /// BLAKE3 hash of the configuration, which identifies a run.
    pub hash: String,
    /// Request to the daemon.
    pub request: RunRequest,
}

impl StudyRun {
    /// Returns the setting and the seed as text.
    pub fn title(&self) -> String {
        format!("{}, seed {}", self.setting, self.seed)
    }
}

impl StudyPlan {
    /// Returns the tag of the study's runs.
    pub fn tag(&self) -> String {
        tag(&self.name)
    }

    /// Reads a study and checks the profile of each of its runs.
    ///
    /// # Errors
    /// An error if the file does not exist, if a key or value is wrong, with its line, or if a setting makes the
    /// profile wrong.
    pub fn read(home: &Home, path: &Path) -> anyhow::Result<Self> {
        let text = bounded_file::read_named_text(path, limits::LONGEST_NAMED)
            .with_context(|| format!("the study {}", path.display()))?;
        let file: StudyFile = toml::from_str(&text).map_err(|error| usage(located(path, &text, &error)))?;
        let wrong = |message: String| usage(format!("{}: {message}", path.display()));
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let name = file.name.clone().unwrap_or(stem);
        let settings = settings(&file).map_err(wrong)?;
        check(&file, &settings).map_err(wrong)?;
        let (text, origin) = Profile::find(&profile(path, &file.profile)).map_err(usage)?;
        let mut runs = Vec::new();
        for (setting, set) in &settings {
            for &seed in &file.seeds {
                let labels = labels(&name, setting, seed).map_err(wrong)?;
                let run = file.run(home, (&text, &origin), (setting, set), seed, labels);
                runs.push(run.with_context(|| format!("{}: setting {setting}", path.display()))?);
            }
        }
        let hashes: BTreeSet<&str> = runs.iter().map(|run| run.hash.as_str()).collect();
        if hashes.len() < runs.len() {
            return Err(wrong("two settings give the same run; leave one out".to_owned()).into());
        }
        Ok(Self {
            name,
            settings: settings.into_iter().map(|(name, _)| name).collect(),
            metrics: file.metrics,
            value: file.value,
            runs,
        })
    }
}

impl StudyFile {
    /// Makes the run of a setting and a seed, from a profile's text and origin.
    fn run(
        &self,
        home: &Home,
        profile: (&str, &str),
        (setting, set): (&str, &[String]),
        seed: u64,
        labels: Labels,
    ) -> anyhow::Result<StudyRun> {
        let set = [set, &[format!("seed={seed}")]].concat();
        let start = Start {
            from_scratch: self.from_scratch,
            checkpoint: None,
            from: self.from.as_deref(),
        };
        let (request, profile) = request::request(home, profile, &set, start, labels)?;
        Ok(StudyRun {
            setting: setting.to_owned(),
            seed,
            hash: profile.configuration(self.from_scratch).map_err(usage)?.hash,
            request,
        })
    }
}

fn tag(study: &str) -> String {
    format!("study:{study}")
}

/// Returns the labels of a study's run.
fn labels(study: &str, setting: &str, seed: u64) -> Result<Labels, String> {
    let name = format!("{study} {setting} seed {seed}").replace(['@', '/'], "_");
    let mut labels = Labels {
        // A setting whose name would be too long is identified by its configuration only.
        name: (name.chars().count() <= 100).then_some(name),
        ..Labels::default()
    };
    labels.tag(&tag(study));
    labels.check()?;
    Ok(labels)
}

fn located(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
    let line = line.map_or_else(String::new, |line| format!(", line {line}"));
    format!(
        "{}{line}: {}",
        path.display(),
        error.message().trim().replace('\n', " ")
    )
}

/// Returns the name of a shipped profile as it is, or the path of a file beside the study's.
fn profile(study: &Path, named: &str) -> String {
    let beside: PathBuf = study.parent().unwrap_or(Path::new("")).join(named);
    if shipped::find(named).is_none() && beside.is_file() {
        return beside.to_string_lossy().into_owned();
    }
    named.to_owned()
}

fn check(file: &StudyFile, settings: &[(String, Vec<String>)]) -> Result<(), String> {
    let names: BTreeSet<&String> = settings.iter().map(|(name, _)| name).collect();
    if names.len() < settings.len() {
        return Err("two settings have the same name".to_owned());
    }
    let seeds: BTreeSet<&u64> = file.seeds.iter().collect();
    if seeds.is_empty() || seeds.len() < file.seeds.len() {
        return Err(format!(
            "seeds is {:?}; expected at least one, and each only once",
            file.seeds
        ));
    }
    if file.from_scratch && file.from.is_some() {
        return Err("from is given together with from_scratch; leave one out".to_owned());
    }
    let runs = settings.len().saturating_mul(file.seeds.len());
    if runs > MOST {
        return Err(format!("the study has {runs} runs, expected at most {MOST}"));
    }
    Ok(())
}

/// Returns the names of the settings, and the `KEY=VALUE` assignments of each.
fn settings(file: &StudyFile) -> Result<Vec<(String, Vec<String>)>, String> {
    let common: Vec<String> = leaves("", &file.set)
        .iter()
        .map(|(key, value)| assignment(key, value))
        .collect();
    if !file.grid.is_empty() && !file.settings.is_empty() {
        return Err("[grid] is given together with [[setting]]; leave one out".to_owned());
    }
    let with = |own: Vec<String>| common.iter().cloned().chain(own).collect::<Vec<_>>();
    if !file.settings.is_empty() {
        let own = |set: &Table| {
            leaves("", set)
                .iter()
                .map(|(key, value)| assignment(key, value))
                .collect()
        };
        let all = file
            .settings
            .iter()
            .map(|setting| (setting.name.clone(), with(own(&setting.set))));
        return Ok(all.collect());
    }
    let axes = axes(&file.grid)?;
    let points = axes.iter().try_fold(1_usize, |points, (_, values)| {
        points.checked_mul(values.len()).filter(|points| *points <= MOST)
    });
    if points.is_none() {
        return Err(format!("[grid] has more than {MOST} points"));
    }
    let mut all = vec![(Vec::new(), Vec::new())];
    for (key, values) in &axes {
        let short = short(key, &axes);
        let longer = |(words, set): &(Vec<String>, Vec<String>), value: &Value| {
            let word = [format!("{short}={}", plain(value))];
            let own = [assignment(key, value)];
            (
                [words.as_slice(), &word].concat(),
                [set.as_slice(), &own].concat(),
            )
        };
        all = all
            .iter()
            .flat_map(|one| values.iter().map(move |value| longer(one, value)))
            .collect();
    }
    let named = |words: Vec<String>| {
        if words.is_empty() {
            "profile".to_owned()
        } else {
            words.join(", ")
        }
    };
    Ok(all
        .into_iter()
        .map(|(words, set)| (named(words), with(set)))
        .collect())
}

/// Lists the dotted keys of a table with their values; nested tables give longer keys.
fn leaves<'a>(prefix: &str, table: &'a Table) -> Vec<(String, &'a Value)> {
    let each = table.iter().flat_map(|(key, value)| {
        let key = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::Table(inner) => leaves(&key, inner),
            value => vec![(key, value)],
        }
    });
    each.collect()
}

/// Returns the keys of a grid with the values of each.
fn axes(grid: &Table) -> Result<Vec<(String, &Vec<Value>)>, String> {
    let mut axes = Vec::new();
    for (key, value) in leaves("", grid) {
        match value {
            Value::Array(values) if !values.is_empty() => axes.push((key, values)),
            other => return Err(format!("grid.{key} is {other}; expected a list of values")),
        }
    }
    Ok(axes)
}

/// Returns the shortest end of a key, in whole words, that distinguishes it from the others.
fn short(key: &str, axes: &[(String, &Vec<Value>)]) -> String {
    let words: Vec<&str> = key.split('.').collect();
    let ends = (0..words.len()).rev().map(|first| words[first..].join("."));
    let alone = |end: &String| {
        let dotted = format!(".{end}");
        axes.iter()
            .filter(|(other, _)| other == end || other.ends_with(&dotted))
            .count()
            == 1
    };
    ends.into_iter().find(alone).unwrap_or_else(|| key.to_owned())
}

fn assignment(key: &str, value: &Value) -> String {
    format!("{key}={value}")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

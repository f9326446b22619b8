//! What a profile names by paths of the person's working folder and environment, made to hold for the daemon, which has
//! others, and for the run when it goes on another day.

use std::path::{Path, PathBuf};

use demask_api::checkpoint::{CONFIG, MANIFEST, TOKENIZER};
use demask_datasets::place;
use demask_datasets::published::is_published;
use demask_rewards::suites::Suite;
use toml_edit::{DocumentMut, Value};

use super::check::{Wrong, wrong};
use super::text::{self, line_of};
use super::{Profile, ProfileError, RewardFolders, StageKind};

impl Profile {
    /// The profile's text with every path whole and the data's folder in it; what it names is there, its benchmarks' data
    /// too.
    ///
    /// # Errors
    /// A wrong profile; a file or folder that is missing, with the line that names it and what to do.
    pub fn anchored(text: &str, origin: &str, from_scratch: bool) -> Result<String, ProfileError> {
        let profile = Self::parse(text, origin)?;
        let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            text::located(origin, text, error.span(), error.message())
        })?;
        let located = |(path, message): Wrong| ProfileError {
            origin: origin.to_owned(),
            line: line_of(text, &path),
            message,
        };
        let data = profile.data.clone().or_else(place::folder);
        for found in profile.paths(from_scratch, data.as_deref()) {
            let (path, file) = found.map_err(located)?;
            let value = Value::from(file.to_string_lossy().into_owned());
            text::place(document.as_table_mut(), &path, value).map_err(|why| located((path, why)))?;
        }
        place::within(data, || profile.benchmarks()).map_err(located)?;
        Ok(document.to_string())
    }

    /// Each path to put in place: where in the profile, and whole.
    fn paths(&self, from_scratch: bool, data: Option<&Path>) -> Vec<Result<(String, PathBuf), Wrong>> {
        let mut all: Vec<_> = data.iter().map(|folder| whole("data", folder)).collect();
        let reading = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, source)| source.kind.reads());
        for (number, source) in reading {
            let path = format!("source.{number}.path");
            let named = source.path.as_deref().unwrap_or(Path::new(""));
            all.push(given(&path, &source.name, named, data));
        }
        let networks = &self.reward_networks;
        for (name, named) in [("clip", &networks.clip), ("image_reward", &networks.image_reward)] {
            all.extend(named.as_deref().map(|named| network(name, named, data)));
        }
        all.extend(
            match (from_scratch, &self.start_from, &self.image_tokenizer_from) {
                (false, Some(named), _) => Some(start(named)),
                (true, _, Some(named)) if named.as_os_str() != "shipped" => Some(image_tokenizer(named)),
                _ => None,
            },
        );
        all
    }

    /// The first benchmark whose data is not there would be missed only when its stage is reached.
    fn benchmarks(&self) -> Result<(), Wrong> {
        let stages = self.stages.iter().enumerate();
        let stages = stages.filter(|(_, stage)| stage.kind == StageKind::Evaluate);
        let named = stages.map(|(number, stage)| (format!("stage.{number}.suites"), &stage.suites));
        let gate = self
            .gate
            .enabled
            .then(|| ("gate.suites".to_owned(), &self.gate.suites));
        for (path, names) in named.chain(gate) {
            let mut suites = names.iter().filter_map(|name| Suite::find(name));
            if let Some(suite) = suites.find(|suite| !suite.available()) {
                let why = suite.items(Some(0)).err().map(|error| error.to_string());
                let why = why.unwrap_or_else(|| "its data is not here".to_owned());
                return wrong(&path, &format!("suites names {}: {why}", suite.name));
            }
        }
        Ok(())
    }
}

fn whole(path: &str, file: &Path) -> Result<(String, PathBuf), Wrong> {
    match std::path::absolute(file) {
        Ok(whole) => Ok((path.to_owned(), whole)),
        Err(error) => wrong(path, &format!("{path} {}: {error}", file.display())),
    }
}

/// Where something lies: as it is named, below the data's folder, or where data is usually put.
fn found(named: &Path, data: Option<&Path>) -> PathBuf {
    let below = data
        .map(|folder| folder.join(named))
        .filter(|below| below.exists());
    if named.exists() {
        named.to_owned()
    } else {
        below.unwrap_or_else(|| place::find(named))
    }
}

/// A source's file or folder.
fn given(path: &str, source: &str, named: &Path, data: Option<&Path>) -> Result<(String, PathBuf), Wrong> {
    let found = found(named, data);
    if found.exists() {
        return whole(path, &found);
    }
    let message = format!(
        "source {source}: there is no {}; name it whole, or the folder that holds it in {}",
        named.display(),
        place::VARIABLE
    );
    wrong(path, &message)
}

/// A reward network's folder.
fn network(name: &str, named: &Path, data: Option<&Path>) -> Result<(String, PathBuf), Wrong> {
    let path = format!("reward_networks.{name}");
    let folder = found(named, data);
    let Some(missing) = RewardFolders::FILES
        .into_iter()
        .find(|file| !folder.join(file).is_file())
    else {
        return whole(&path, &folder);
    };
    let message = format!(
        "{name} is {}; there is no {missing} in it, a reward network is a folder with {}; name it whole, or the folder \
         that holds it in {}",
        folder.display(),
        RewardFolders::FILES.join(" and "),
        place::VARIABLE
    );
    wrong(&path, &message)
}

/// The folder that a run starts from.
fn start(named: &Path) -> Result<(String, PathBuf), Wrong> {
    match can_start(named) {
        Ok(()) => whole("start_from", named),
        Err(why) => wrong("start_from", &format!("start_from is {}; {why}", named.display())),
    }
}

/// The folder that an image tokenizer is taken from.
fn image_tokenizer(named: &Path) -> Result<(String, PathBuf), Wrong> {
    let (path, holds) = ("image_tokenizer_from", "image_tokenizer/config.json");
    if named.join(holds).is_file() {
        return whole(path, named);
    }
    let message = format!(
        "{path} is {}; expected a checkpoint folder, found no {holds} in it",
        named.display()
    );
    wrong(path, &message)
}

/// Whether a run can start from a folder: a checkpoint of ours, or a model as it is published.
///
/// # Errors
/// What was expected of it, and what each kind brings along.
pub fn can_start(folder: &Path) -> Result<(), String> {
    let published = is_published(folder);
    if folder.join(MANIFEST).is_file() || (published && folder.join(TOKENIZER).is_file()) {
        return Ok(());
    }
    let found = match published {
        true => format!("found {CONFIG} without {TOKENIZER}"),
        false => format!("found neither {MANIFEST} nor {CONFIG}"),
    };
    Err(format!(
        "expected a checkpoint folder ({MANIFEST}), or a published model's ({CONFIG} and {TOKENIZER}), of which a run takes \
         the weights and the tokenizer, the lengths as published, and no image tokenizer but one of its own in \
         image_tokenizer/; {found} in it"
    ))
}

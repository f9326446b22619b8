//! Absolute paths for a profile. A person writes paths relative to a working folder and an environment. The daemon has
//! others, and the run may continue on another day, so every path is made absolute before the profile is sent.

use std::path::{Path, PathBuf};

use demask_api::Growth;
use demask_api::checkpoint::{
    ADAPTER, ADAPTER_CONFIG, CONFIG, IMAGE_TOKENIZER, MANIFEST, TOKENIZER, has_adapter,
};
use demask_datasets::data_dir;
use demask_datasets::formats::shards::is_there;
use demask_datasets::prompts::published::{BUDGETS, is_published};
use toml_edit::{DocumentMut, Value};

use super::text::{self, line_of};
use super::wrong::{Wrong, wrong};
use super::{Profile, ProfileError, RewardFolders, StageKind};
use crate::inference::image_tokenizer::image_tokenizer_shape;
use crate::inference::shipped::SHIPPED;

impl Profile {
    /// Returns the profile's text with every path absolute and the data folder filled in. It checks that every named
    /// file is there, the data of the benchmarks included.
    ///
    /// # Errors
    /// An error if the profile is wrong, or if a named file or folder is missing. The error has the line that names it
    /// and says what to do.
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
        let data = profile.data.clone().or_else(data_dir::folder);
        let rewards = profile.external_rewards.iter().enumerate();
        let folders = rewards.map(|(number, reward)| {
            let path = format!("reward.{number}");
            let folder = reward.place(&path, origin)?;
            Ok((format!("{path}.folder"), folder))
        });
        let paths = profile.paths(from_scratch, data.as_deref());
        let benchmarks = profile.benchmarks.iter().enumerate();
        let files = benchmarks.map(|(number, own)| {
            let path = format!("benchmark.{number}.file");
            items_of(&path, &own.name, &own.file, (origin, data.as_deref()))
        });
        for found in folders.chain(files).chain(paths) {
            let (path, file) = found.map_err(located)?;
            let value = Value::from(file.to_string_lossy().into_owned());
            text::place(document.as_table_mut(), &path, value).map_err(|why| located((path, why)))?;
        }
        // From here on the files of own benchmarks have absolute paths.
        let whole = Self::parse(&document.to_string(), origin)?;
        data_dir::within(data, || whole.benchmark_data()).map_err(located)?;
        Ok(document.to_string())
    }

    /// Lists each path to fill in: its key in the profile, and the absolute path.
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
                (true, _, Some(named)) if named.as_os_str() != SHIPPED => Some(image_tokenizer(named)),
                _ => None,
            },
        );
        all.extend(self.put_on(from_scratch).transpose());
        all
    }

    /// Checks the adapter, the fresh LoRA or the growth that is applied to the start checkpoint, and returns the path
    /// to fill in.
    fn put_on(&self, from_scratch: bool) -> Result<Option<(String, PathBuf)>, Wrong> {
        let given = [
            ("lora", self.lora.is_some()),
            ("adapter", self.adapter.is_some()),
            ("grow", self.grow.is_some()),
        ];
        let Some((key, _)) = given.into_iter().find(|(_, given)| *given) else {
            return Ok(None);
        };
        if from_scratch {
            let message = format!(
                "{key} needs a checkpoint, but --from-scratch starts without one; leave one of them out"
            );
            return wrong(key, &message);
        }
        let start = self.start_from.as_deref();
        if let Some(start) = start.filter(|start| has_adapter(start)) {
            let message = format!(
                "{key} needs a complete model, but {} contains an adapter; leave {key} out to continue the adapter's training, or make a complete \
                 model with `demask merge`",
                start.display()
            );
            return wrong(key, &message);
        }
        match (&self.adapter, &self.grow) {
            (Some(named), _) => adapter(named).map(Some),
            (None, Some(growth)) => self.growth(growth, start),
            (None, None) => Ok(None),
        }
    }

    /// Checks that a text model can grow to use the picture codes of an image tokenizer with as many codes.
    fn growth(&self, growth: &Growth, start: Option<&Path>) -> Result<Option<(String, PathBuf)>, Wrong> {
        let Some(start) = start else {
            return wrong(
                "grow",
                "grow adds picture codes to a text model, but the shipped model has picture codes already: name a text model in start_from",
            );
        };
        let named = self.image_tokenizer_from.as_deref();
        if named.is_some_and(|named| named.as_os_str() == SHIPPED) {
            return Ok(None);
        }
        let folder = image_tokenizer_of(named, start);
        let shape = image_tokenizer_shape(&folder).or_else(|error| {
            let message =
                format!("grow needs an image tokenizer, in image_tokenizer_from or in start_from: {error}");
            wrong(named.map_or("grow", |_| "image_tokenizer_from"), &message)
        })?;
        self.codes_of_growth(growth, &shape).map_err(|(path, message)| {
            let key = path.rsplit('.').next().unwrap_or_default();
            (path.clone(), format!("{key} {message}"))
        })?;
        named
            .map(|named| whole("image_tokenizer_from", named))
            .transpose()
    }

    /// Checks that the data of every named suite is there. Without this check, a run would notice the absence only when
    /// it reaches the suite's stage.
    fn benchmark_data(&self) -> Result<(), Wrong> {
        let suites = self.suites();
        let stages = self.stages.iter().enumerate();
        let stages = stages.filter(|(_, stage)| stage.kind == StageKind::Evaluate);
        let named = stages.map(|(number, stage)| (format!("stage.{number}.suites"), &stage.suites));
        let gate = self
            .gate
            .enabled
            .then(|| ("gate.suites".to_owned(), &self.gate.suites));
        for (path, names) in named.chain(gate) {
            let mut named = names.iter().filter_map(|name| suites.find(name));
            if let Some(suite) = named.find(|suite| !suite.is_available()) {
                let why = suite.items(Some(1)).err().map(|error| error.to_string());
                let why = why.unwrap_or_else(|| "its data was not found".to_owned());
                return wrong(&path, &format!("suites names {}: {why}", suite.name()));
            }
        }
        Ok(())
    }
}

/// Returns the folder of the image tokenizer for a model that grows. If `named` is a checkpoint, its tokenizer's folder
/// is used; otherwise `named` itself, as a published tokenizer's folder. Without `named` it is the tokenizer in the
/// start checkpoint.
pub(crate) fn image_tokenizer_of(named: Option<&Path>, start: &Path) -> PathBuf {
    let inside = named.unwrap_or(start).join(IMAGE_TOKENIZER);
    match named {
        Some(named) if !inside.is_dir() => named.to_owned(),
        _ => inside,
    }
}

/// Checks the folder of an adapter whose training continues.
fn adapter(named: &Path) -> Result<(String, PathBuf), Wrong> {
    match [ADAPTER_CONFIG, ADAPTER]
        .into_iter()
        .find(|file| !named.join(file).is_file())
    {
        None => whole("adapter", named),
        Some(missing) => {
            let message = format!(
                "adapter is {}, which has no {missing}; expected a folder in PEFT's layout: {ADAPTER_CONFIG} and {ADAPTER}",
                named.display()
            );
            wrong("adapter", &message)
        }
    }
}

fn whole(path: &str, file: &Path) -> Result<(String, PathBuf), Wrong> {
    match std::path::absolute(file) {
        Ok(whole) => Ok((path.to_owned(), whole)),
        Err(error) => wrong(path, &format!("{path} {}: {error}", file.display())),
    }
}

/// Finds a file or folder: as it is named, below the data folder, or where data is usually put.
fn found(named: &Path, data: Option<&Path>) -> PathBuf {
    let below = data
        .map(|folder| folder.join(named))
        .filter(|below| is_there(below));
    if is_there(named) {
        named.to_owned()
    } else {
        below.unwrap_or_else(|| data_dir::find(named))
    }
}

/// Finds the file or folder of a source.
fn given(path: &str, source: &str, named: &Path, data: Option<&Path>) -> Result<(String, PathBuf), Wrong> {
    let found = found(named, data);
    if is_there(&found) {
        return whole(path, &found);
    }
    if let Some(repo) = data_dir::on_hub(named) {
        let message = match repo {
            Ok((repo, _)) => format!(
                "it is not in the cache of the hub; `{}` downloads it",
                repo.command()
            ),
            Err(error) => error.to_string(),
        };
        return wrong(path, &format!("source {source}: {}: {message}", named.display()));
    }
    let message = format!(
        "source {source}: there is no {}; give an absolute path, or set {} to the folder that contains it",
        named.display(),
        data_dir::VARIABLE
    );
    wrong(path, &message)
}

/// Finds the file of an own benchmark: as it is named, beside the profile, or where data is usually put.
pub(super) fn items_of(
    path: &str,
    benchmark: &str,
    named: &Path,
    (origin, data): (&str, Option<&Path>),
) -> Result<(String, PathBuf), Wrong> {
    let beside = Path::new(origin).parent().map(|folder| folder.join(named));
    let file = match beside.filter(|beside| !is_there(named) && is_there(beside)) {
        Some(beside) => beside,
        None => found(named, data),
    };
    if is_there(&file) {
        return whole(path, &file);
    }
    let message = format!(
        "benchmark {benchmark}: there is no {}; give an absolute path, put it beside the profile, or set {} to the folder that contains it",
        named.display(),
        data_dir::VARIABLE
    );
    wrong(path, &message)
}

/// Finds the folder of a reward network.
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
        "{name} is {}, which has no {missing}; a reward network is a folder with {}; give an absolute path, or set {} to \
         the folder that contains it",
        folder.display(),
        RewardFolders::FILES.join(" and "),
        data_dir::VARIABLE
    );
    wrong(&path, &message)
}

/// Checks the folder that a run starts from.
fn start(named: &Path) -> Result<(String, PathBuf), Wrong> {
    match can_start(named) {
        Ok(()) => whole("start_from", named),
        Err(why) => wrong("start_from", &format!("start_from is {}; {why}", named.display())),
    }
}

/// Checks the checkpoint folder that an image tokenizer is taken from.
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

/// Checks that a run can start from a folder: a checkpoint of Demask, or a published model.
///
/// # Errors
/// A message that says what was expected, and what each kind of folder provides.
pub fn can_start(folder: &Path) -> Result<(), String> {
    let published = is_published(folder);
    if folder.join(MANIFEST).is_file() || (published && folder.join(TOKENIZER).is_file()) {
        return Ok(());
    }
    let has = |file: &str| folder.join(file).symlink_metadata().is_ok();
    let found = match [MANIFEST, CONFIG].map(has) {
        _ if published => format!("found {CONFIG} without {TOKENIZER}"),
        [true, _] => format!("found {MANIFEST}, which is not a file,"),
        [false, true] if !folder.join(CONFIG).is_file() => format!("found {CONFIG}, which is not a file,"),
        [false, true] => {
            format!("found an incomplete checkpoint ({CONFIG} and {BUDGETS}, but no {MANIFEST})")
        }
        [false, false] => format!("found neither {MANIFEST} nor {CONFIG}"),
    };
    Err(format!(
        "expected a checkpoint folder ({MANIFEST}), or a published model's ({CONFIG} and {TOKENIZER}), of which a run takes \
         the weights and the tokenizer, the lengths as published, and no image tokenizer but one of its own in \
         image_tokenizer/; {found} in it"
    ))
}

//! `demask pull`: fetches a model or a data set from the Hugging Face Hub into its cache and prints the folder that
//! holds it.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use demask_datasets::hub::{
    Cache, Hub, Laid, PullEvent, PullOrigin, Pulled, Repo, RepoKind, RetryPolicy, Settings, Watch,
};
use demask_rewards::benchmarks::{BenchmarkSource, Data, Suite};
use demask_storage::visible;
use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::Pull;
use crate::exit::UsageError;
use crate::model::engine;
use crate::terminal::print;

/// The result of a pull, as `--json` prints it.
#[derive(Serialize)]
struct PullReport {
    #[serde(flatten)]
    pulled: Pulled,
    /// With `--to`: the folder, and the files that were copied into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Laid>,
}

/// Pulls a repository and prints the folder of the snapshot, or the one that was named.
///
/// # Errors
/// An error if the repository's name is wrong, or if the folder is a file; any error of the hub, the network or the
/// disk.
pub fn pull(mut options: Pull) -> anyhow::Result<ExitCode> {
    if let Some(name) = &options.benchmark {
        let source = source(name)?;
        let Some(hub) = source.hub else {
            let message = format!(
                "--benchmark {name}: no copy on the hub is known; get it from {} and put it into one of {}",
                source.from,
                source.places.join(", ")
            );
            return Err(UsageError(message).into());
        };
        print::note(&format!(
            "{name}: {hub}, about {} MB, licence: {}",
            source.megabytes, source.licence
        ));
        if source.is_gated {
            print::note(&format!(
                "{hub} is gated: accept its terms on its page and set HF_TOKEN to a token of the same account"
            ));
        }
        options.repo = Some(hub.to_owned());
        options.dataset = true;
        options.files = source.files.iter().map(|file| (*file).to_owned()).collect();
    }
    let kind = if options.dataset {
        RepoKind::Dataset
    } else {
        RepoKind::Model
    };
    let named = options.repo.clone().unwrap_or_default();
    let repo = Repo::parse(&named, kind).map_err(|error| UsageError(error.to_string()))?;
    if let Some(to) = options.to.as_deref().filter(|to| to.exists() && !to.is_dir()) {
        return Err(UsageError(format!("--to {}: expected a folder, found a file", to.display())).into());
    }
    let PullReport { pulled, to } = if std::io::stderr().is_terminal() {
        fetch(&repo, &options, &Bars::default())?
    } else {
        fetch(&repo, &options, &LineProgress::default())?
    };
    print::note(&summary(&pulled, to.as_ref()));
    if options.output.json {
        print::json(&PullReport { pulled, to })?;
    } else {
        println!("{}", to.map_or(pulled.snapshot, |laid| laid.folder).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the source of a published benchmark's data.
fn source(name: &str) -> Result<&'static BenchmarkSource, UsageError> {
    match Suite::find(name).map(|suite| suite.data()) {
        Some(Data::Published(source)) => Ok(source),
        Some(_) => Err(UsageError(format!(
            "--benchmark {name}: its data cannot be pulled; see `demask eval --list`"
        ))),
        None => {
            let all = Suite::all().filter(|suite| matches!(suite.data(), Data::Published(_)));
            let mut names: Vec<String> = all
                .map(|suite| suite.name().split(':').next().unwrap_or_default().to_owned())
                .collect();
            names.dedup();
            Err(UsageError(format!(
                "--benchmark {name}: there is no such benchmark; there are {}",
                names.join(", ")
            )))
        }
    }
}

fn fetch(repo: &Repo, options: &Pull, watch: &dyn Watch) -> anyhow::Result<PullReport> {
    let settings = Settings::from_environment()?;
    if let Some(to) = &options.to {
        let root = settings.cache.clone();
        let outside = Cache { root }.check_outside(to);
        outside.map_err(|error| UsageError(format!("--to {error}")))?;
    }
    let hub = Hub::new(&settings, RetryPolicy::default())?;
    engine::runtime()?.block_on(async {
        let pulled = hub
            .pull(repo, &options.files, usize::from(options.jobs), watch)
            .await?;
        let to = match &options.to {
            Some(folder) => {
                watch.saw(PullEvent::Note(&format!("copying to {}", folder.display())));
                Some(pulled.lay_into(folder).await?)
            }
            None => None,
        };
        Ok(PullReport { pulled, to })
    })
}

fn summary(pulled: &Pulled, to: Option<&Laid>) -> String {
    let of = |origin: PullOrigin| {
        let files = pulled.files.iter().filter(|file| file.origin == origin);
        files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.bytes))
    };
    let ((fetched, bytes), (here, _)) = (of(PullOrigin::Hub), of(PullOrigin::Cache));
    let cache = format!(
        "downloaded: {fetched} ({}), in the cache already: {here}",
        HumanBytes(bytes)
    );
    let Some(Laid { written, kept, .. }) = to else {
        return cache;
    };
    let (written, kept) = (written.len(), kept.len());
    format!("{cache}; written to the folder: {written}, there already: {kept}")
}

/// Returns the line for an event; `None` for events about bytes.
fn line(event: &PullEvent<'_>) -> Option<String> {
    Some(match event {
        PullEvent::Listed { commit, files } => format!("commit {commit}, files: {files}"),
        PullEvent::Done {
            file,
            bytes,
            origin: PullOrigin::Hub,
        } => format!("{file}: {}", HumanBytes(*bytes)),
        PullEvent::Held { file } => format!("{file}: another pull is downloading it; waiting for it"),
        PullEvent::Waiting { what, why, wait } => {
            format!("{what}: {why}; retrying in {}", HumanDuration(*wait))
        }
        PullEvent::Note(note) => (*note).to_owned(),
        // The cache may hold thousands of files, so only their number is reported.
        PullEvent::Begun { .. }
        | PullEvent::Here { .. }
        | PullEvent::Checking { .. }
        | PullEvent::Done { .. } => {
            return None;
        }
    })
}

/// The progress bars, one for each file that is being fetched.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    each: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn begin(&self, file: &str, size: Option<u64>) {
        let template = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let bar = self
            .all
            .add(ProgressBar::new(size.unwrap_or_default()).with_message(visible::line(file)));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        locked(&self.each).insert(file.to_owned(), bar);
    }
}

impl Watch for Bars {
    fn saw(&self, event: PullEvent<'_>) {
        match event {
            PullEvent::Begun { file, size } => self.begin(file, size),
            PullEvent::Here { file, bytes } => {
                locked(&self.each)
                    .get(file)
                    .inspect(|bar| bar.set_position(bytes));
            }
            PullEvent::Checking { file } => {
                locked(&self.each)
                    .get(file)
                    .inspect(|bar| bar.set_message(format!("{}, checking", visible::line(file))));
            }
            PullEvent::Done { file, .. } => {
                locked(&self.each)
                    .remove(file)
                    .inspect(ProgressBar::finish_and_clear);
            }
            _ => {}
        }
        if let Some(line) = line(&event) {
            // The error is ignored: nothing is lost if the terminal is gone.
            let _ = self.all.println(visible::lines(&line));
        }
    }
}

/// The progress without a terminal: one line per file, and one for each tenth of a large file.
#[derive(Default)]
struct LineProgress {
    each: Mutex<HashMap<String, (u64, u64)>>,
}

/// Size in bytes from which a file is large.
const LARGE: u64 = 64 << 20;

impl LineProgress {
    /// Returns a line if a further tenth of the file has arrived.
    fn tenth(&self, file: &str, bytes: u64) -> Option<String> {
        let mut each = locked(&self.each);
        let (size, told) = each.get_mut(file)?;
        let tenth = bytes.saturating_mul(10) / (*size).max(1);
        let news = tenth > *told && tenth < 10;
        *told = tenth;
        news.then(|| format!("{file}: {} % of {}", 10 * tenth, HumanBytes(*size)))
    }
}

impl Watch for LineProgress {
    fn saw(&self, event: PullEvent<'_>) {
        let line = match event {
            PullEvent::Begun {
                file,
                size: Some(size),
            } if size >= LARGE => {
                locked(&self.each).insert(file.to_owned(), (size, 0));
                None
            }
            PullEvent::Here { file, bytes } => self.tenth(file, bytes),
            _ => line(&event),
        };
        if let Some(line) = line {
            print::note(&line);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

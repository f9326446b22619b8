//! A mock hub on this machine, a cache, and pulls from the one into the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::hub_server::{File, Server};
use demask_datasets::hub::{
    AccessToken, Hub, HubError, PullEvent, Pulled, Repo, RepoKind, RetryPolicy, Settings, Watch,
};

pub(super) const CONFIG: &str = r#"{"model_type": "tiny"}"#;

pub(super) const LARGE: usize = 300_000;

/// Records the reported waits and notes.
#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<String>>);

impl Watch for Heard {
    fn saw(&self, event: PullEvent<'_>) {
        let line = match event {
            PullEvent::Waiting { what, why, wait } => format!("{what}: {why} {}", wait.as_millis()),
            PullEvent::Note(note) => note.to_owned(),
            PullEvent::Held { file } => format!("held {file}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

/// A mock hub, a cache, and settings with or without a token.
pub(super) struct Place {
    pub(super) server: Server,
    pub(super) folder: tempfile::TempDir,
    pub(super) settings: Settings,
    pub(super) heard: Heard,
}

impl Place {
    pub(super) fn new(files: Vec<File>) -> Self {
        let (server, folder) = (Server::start(files), tempfile::tempdir().unwrap());
        let settings = Settings {
            endpoint: server.endpoint().parse().unwrap(),
            cache: folder.path().join("hub"),
            token: None,
            offline: false,
        };
        let heard = Heard::default();
        Self {
            server,
            folder,
            settings,
            heard,
        }
    }

    pub(super) fn tiny() -> Self {
        Self::new(vec![
            File::small("config.json", CONFIG),
            File::small("empty.txt", ""),
            File::large("model.safetensors", LARGE),
            File::small("sub folder/deep/notes.txt", "below"),
        ])
    }

    pub(super) fn with_token(mut self) -> Self {
        self.settings.token = Some(AccessToken::new("hf_secret", "HF_TOKEN").unwrap());
        self
    }

    pub(super) fn pull_as(&self, name: &str, kind: RepoKind, files: &[&str]) -> Result<Pulled, HubError> {
        let repo = Repo::parse(name, kind)?;
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        let patience = RetryPolicy {
            tries: 3,
            first_wait: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let hub = Hub::new(&self.settings, patience)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(hub.pull(&repo, &files, 3, &self.heard))
    }

    pub(super) fn pull(&self, name: &str, files: &[&str]) -> Result<Pulled, HubError> {
        self.pull_as(name, RepoKind::Model, files)
    }

    pub(super) fn words(&self, files: &[&str]) -> String {
        self.pull("o/tiny", files).unwrap_err().to_string()
    }

    pub(super) fn shelf(&self) -> PathBuf {
        self.settings.cache.join("models--o--tiny")
    }

    pub(super) fn incomplete(&self, file: &File) -> PathBuf {
        self.shelf()
            .join("blobs")
            .join(format!("{}.incomplete", file.etag()))
    }

    /// Returns the names in the folder of blobs.
    pub(super) fn blobs(&self) -> Vec<String> {
        tree(&self.shelf().join("blobs")).into_keys().collect()
    }
}

/// Returns every file below a folder with its content, and every link with its target.
pub(super) fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_symlink() {
                found.insert(name, format!("-> {}", fs::read_link(path).unwrap().display()));
            } else if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8(bytes)
                    .unwrap_or_else(|error| format!("{} bytes", error.as_bytes().len()));
                found.insert(name, text);
            }
        }
    }
    found
}

pub(super) fn large() -> File {
    File::large("model.safetensors", LARGE)
}

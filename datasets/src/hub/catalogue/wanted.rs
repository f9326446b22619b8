//! A request for files of a repository, and what the cache alone can answer.

use std::path::{Path, PathBuf};

use crate::hub::catalogue::listing::{Listing, fits};
use crate::hub::local::cache::CachedRepo;
use crate::hub::repo::is_commit;
use crate::hub::{HubError, PullEvent, PullOrigin, Pulled, PulledFile, Repo, Watch};

/// The requested files and their place in the cache.
pub struct Wanted<'a> {
    /// The repository's place in the cache.
    pub shelf: CachedRepo,
    /// The repository.
    pub repo: &'a Repo,
    /// The files, by name or pattern; empty for all.
    pub wanted: &'a [String],
}

impl Wanted<'_> {
    /// Makes the result of a pull from files of a commit.
    #[must_use]
    pub fn pulled(&self, commit: &str, files: Vec<PulledFile>) -> Pulled {
        Pulled {
            repo: self.repo.id.clone(),
            revision: self.repo.revision.clone(),
            commit: commit.to_owned(),
            snapshot: self.shelf.snapshot(commit),
            files,
        }
    }

    /// Returns the result without asking the hub, if the cache can never be stale: the revision is a commit, and every
    /// wanted file is in the cache.
    #[must_use]
    pub fn settled(&self) -> Option<Pulled> {
        let commit = Some(&self.repo.revision).filter(|revision| is_commit(revision))?;
        let kept = Listing::kept(&self.shelf.tree(commit), commit);
        let files = match kept {
            Some(listing) => listing.select(self.repo, self.wanted).ok()?,
            None if self.wanted.is_empty() || self.wanted.iter().any(|one| one.contains(['*', '?', '['])) => {
                return None;
            }
            None => self.wanted.to_vec(),
        };
        let files = files.into_iter().map(|file| self.here(commit, file));
        Some(self.pulled(commit, files.collect::<Option<_>>()?))
    }

    /// Returns the newest files in the cache, if they are complete.
    ///
    /// # Errors
    /// [`HubError::Offline`] that names what is missing; [`HubError::NoFile`].
    pub fn last_pulled(&self, cache: &Path, why: &str, watch: &dyn Watch) -> Result<Pulled, HubError> {
        let missing = |missing: String| HubError::Offline {
            missing: format!("{}: {missing}", self.repo),
            cache: cache.to_owned(),
            why: why.to_owned(),
        };
        let commit = self.shelf.commit(&self.repo.revision);
        let commit = commit.ok_or_else(|| missing("the revision is".to_owned()))?;
        let snapshot = self.shelf.snapshot(&commit);
        let there = files_below(&snapshot);
        let kept = Listing::kept(&self.shelf.tree(&commit), &commit);
        let files = match &kept {
            Some(listing) => listing.select(self.repo, self.wanted)?,
            None => self.chosen(&there).map_err(&missing)?,
        };
        watch.saw(PullEvent::Note(&format!(
            "{why}: using {} as it was last pulled, at commit {commit}",
            self.repo
        )));
        if kept.is_none() && self.wanted.is_empty() {
            watch.saw(PullEvent::Note(
                "the pulled files may be incomplete: the cache has no listing of the repository",
            ));
        }
        let found = files.into_iter().map(|file| {
            self.here(&commit, file.clone())
                .ok_or_else(|| missing(format!("{file} is")))
        });
        Ok(self.pulled(&commit, found.collect::<Result<_, _>>()?))
    }

    /// Returns the wanted files among those `there`; the error names a wanted file that is missing.
    fn chosen(&self, there: &[String]) -> Result<Vec<String>, String> {
        if there.is_empty() {
            return Err("its files are".to_owned());
        }
        let lacking = |one: &&String| !there.iter().any(|path| fits(one, path));
        if let Some(lacking) = self.wanted.iter().find(lacking) {
            return Err(format!("{lacking} is"));
        }
        let wanted = |path: &&String| self.wanted.is_empty() || self.wanted.iter().any(|one| fits(one, path));
        Ok(there.iter().filter(wanted).cloned().collect())
    }

    fn here(&self, commit: &str, file: String) -> Option<PulledFile> {
        Some(PulledFile {
            bytes: self.shelf.has(commit, &file)?,
            file,
            origin: PullOrigin::Cache,
            checked: None,
        })
    }
}

/// Lists the files of a snapshot by path.
fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&below))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = below.join(entry.file_name());
            match (entry.file_type().is_ok_and(|kind| kind.is_dir()), path.to_str()) {
                (true, _) => folders.push(path),
                (false, Some(name)) => files.push(name.to_owned()),
                (false, None) => {}
            }
        }
    }
    files.sort();
    files
}

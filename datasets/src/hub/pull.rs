//! A pull: lists the revision's files, fetches the missing ones several at a time, then records the revision's commit.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{HubError, PullEvent, PullOrigin, Pulled, PulledFile, Repo, RetryPolicy, Settings, Watch};
use crate::hub::catalogue::listing::Listing;
use crate::hub::catalogue::wanted::Wanted;
use crate::hub::local::blob::{Fetch, free};
use crate::hub::local::cache::{Cache, CachedRepo, length, write};
use crate::hub::local::lock::Lock;
use crate::hub::wire::answer::AnswerSubject;
use crate::hub::wire::http::Http;
use crate::hub::wire::remote::Remote;

/// A hub and the cache into which it is pulled.
#[derive(Debug)]
pub struct Hub {
    http: Http,
    cache: Cache,
    offline: bool,
}

impl Hub {
    /// Makes the hub and cache of the settings.
    ///
    /// # Errors
    /// [`HubError::Setting`].
    pub fn new(settings: &Settings, patience: RetryPolicy) -> Result<Self, HubError> {
        let root = settings.cache.clone();
        Ok(Self {
            http: Http::new(settings, patience)?,
            cache: Cache { root },
            offline: settings.offline,
        })
    }

    /// Pulls the `wanted` files, or all if it is empty, `at_once` at a time. Files in the cache are not fetched. If the
    /// revision is a commit and all its wanted files are in the cache, the hub is not asked. If the hub cannot be
    /// reached, the cache serves.
    ///
    /// # Errors
    /// The first failure. The other downloads in progress stop; the next pull resumes them.
    pub async fn pull(
        &self,
        repo: &Repo,
        wanted: &[String],
        at_once: usize,
        watch: &dyn Watch,
    ) -> Result<Pulled, HubError> {
        let asked_for = Wanted {
            shelf: self.cache.shelf(repo),
            repo,
            wanted,
        };
        if self.offline {
            let why = "HF_HUB_OFFLINE forbids contacting the hub";
            return asked_for.last_pulled(&self.cache.root, why, watch);
        }
        if let Some(pulled) = asked_for.settled() {
            return Ok(pulled);
        }
        match Listing::ask(&self.http, repo, watch).await {
            Ok(listing) => self.fetch(&asked_for, &listing, at_once, watch).await,
            Err(error @ (HubError::GaveUp { .. } | HubError::TooBusy { .. })) => {
                let served = asked_for.last_pulled(&self.cache.root, "the hub does not answer", watch);
                served.map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    async fn fetch(
        &self,
        asked_for: &Wanted<'_>,
        listing: &Listing,
        at_once: usize,
        watch: &dyn Watch,
    ) -> Result<Pulled, HubError> {
        let Wanted { shelf, repo, wanted } = asked_for;
        let chosen = listing.select(repo, wanted)?;
        watch.saw(PullEvent::Listed {
            commit: &listing.commit,
            files: chosen.len(),
        });
        self.room(shelf, listing, &chosen)?;
        let files = chosen.iter().map(|file| {
            let one = One {
                shelf,
                repo,
                listing,
                file,
                watch,
            };
            self.one(one)
        });
        let mut files: Vec<PulledFile> = stream::iter(files)
            .buffer_unordered(at_once.max(1))
            .try_collect()
            .await?;
        files.sort_by(|a, b| a.file.cmp(&b.file));
        let tree = shelf.tree(&listing.commit);
        // A commit's listing never changes, and an existing one by Python may hold more metadata.
        if let Some(listed) = listing.to_keep()
            && Listing::kept(&tree, &listing.commit).is_none()
        {
            write(&tree, &listed)?;
        }
        self.cache.tag()?;
        shelf.note(&repo.revision, &listing.commit)?;
        Ok(asked_for.pulled(&listing.commit, files))
    }

    /// Checks that the disk has space for the files to be fetched, as listed.
    fn room(&self, shelf: &CachedRepo, listing: &Listing, chosen: &[String]) -> Result<(), HubError> {
        let to_come = |file: &String| {
            let one = listing.files.get(file)?;
            let here = |etag: &str| length(&shelf.blob(etag)).or_else(|| length(&shelf.incomplete(etag)));
            let here = shelf.has(&listing.commit, file).or_else(|| here(one.etag()?));
            Some(one.size?.saturating_sub(here.unwrap_or_default()))
        };
        let needed = chosen.iter().filter_map(to_come).fold(0, u64::saturating_add);
        let path = self.cache.root.clone();
        match free(&path) {
            Some(free) if free < needed => Err(HubError::DiskFull { path, needed, free }),
            _ => Ok(()),
        }
    }

    /// Provides one file: from the snapshot, from its blob, or from the hub.
    async fn one(&self, one: One<'_>) -> Result<PulledFile, HubError> {
        let One {
            shelf,
            repo,
            listing,
            file,
            watch,
        } = one;
        let listed = listing.files.get(file).and_then(|listed| listed.size);
        let there = shelf.has(&listing.commit, file);
        if let Some(bytes) = there.filter(|&bytes| listed.is_none_or(|size| size == bytes)) {
            return Ok(done(file, bytes, PullOrigin::Cache, None, watch));
        }
        let asked = AnswerSubject {
            repo,
            file: Some(file),
        };
        let remote = Remote::ask(&self.http, &asked, &listing.commit, file, watch).await?;
        shelf.prepare(&listing.commit, file)?;
        let path = shelf.lock(&remote.etag);
        let lock = Lock::take(&path, || watch.saw(PullEvent::Held { file })).await;
        let _lock = lock.map_err(HubError::at(&path))?;
        let blob = shelf.blob(remote.etag.as_str());
        let whole = length(&blob).filter(|&bytes| remote.size.is_none_or(|size| size == bytes));
        let (bytes, origin, checked) = match whole {
            Some(bytes) => (bytes, PullOrigin::Cache, None),
            None => {
                let incomplete = shelf.incomplete(remote.etag.as_str());
                let (http, remote) = (&self.http, &remote);
                let fetch = Fetch {
                    http,
                    asked,
                    remote,
                    file,
                    incomplete: &incomplete,
                    blob: &blob,
                    watch,
                };
                (fetch.run().await?, PullOrigin::Hub, remote.check())
            }
        };
        shelf.link(&listing.commit, file, &remote.etag)?;
        Ok(done(file, bytes, origin, checked, watch))
    }
}

/// The parameters of [`Hub::one`].
struct One<'a> {
    shelf: &'a CachedRepo,
    repo: &'a Repo,
    listing: &'a Listing,
    file: &'a str,
    watch: &'a dyn Watch,
}

fn done(
    file: &str,
    bytes: u64,
    origin: PullOrigin,
    checked: Option<&'static str>,
    watch: &dyn Watch,
) -> PulledFile {
    watch.saw(PullEvent::Done { file, bytes, origin });
    let file = file.to_owned();
    PulledFile {
        file,
        bytes,
        origin,
        checked,
    }
}

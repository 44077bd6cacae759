//! From a name to a folder on this disk.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt, stream};

use super::cache::{Commit, RepoCache};
use super::client::{CallError, Client};
use super::download::Downloads;
use super::error::HubError;
use super::listing::{Listing, RemoteFile, describe, listing};
use super::name::HubName;
use super::path::RepoPath;
use super::refusal::{of_file, of_model};
use super::select::{NoCheckpoint, Selection, Tensors, select, shards};
use super::settings::HubSettings;
use super::tries::Tries;
use super::watch::{FetchWatcher, Tally};

/// Files that are asked about at a time.
const ASKED: usize = 8;
/// Files that are fetched at a time: one connection seldom takes all that the line has.
const FETCHED: usize = 4;

/// A hub with the cache of what came from it. To be made and used within one runtime.
pub struct Hub {
    settings: HubSettings,
    client: Client,
}

impl Hub {
    /// Nothing is asked of it yet.
    pub fn new(settings: HubSettings) -> Self {
        let client = Client::new(&settings);
        Self { settings, client }
    }

    /// The folder or GGUF file of a model, fetched as far as it is not here yet. May be dropped at
    /// any time; another run goes on with what came.
    ///
    /// Where the hub cannot be reached, what was fetched of the revision before is taken, and the
    /// watcher told so.
    ///
    /// # Errors
    /// There is no such model, or it cannot be had or served.
    pub async fn fetch(
        &self,
        name: &HubName,
        watcher: &dyn FetchWatcher,
    ) -> Result<PathBuf, HubError> {
        let cache = RepoCache::new(&self.settings.cache, &name.repository);
        if self.settings.offline {
            return here(&cache, name).map_err(|there| HubError::Offline {
                model: name.to_string(),
                there,
            });
        }
        match self.listing(name, watcher).await {
            Ok(listing) => self.complete(&cache, name, &listing, watcher).await,
            Err(failure) if failure.may_pass() => match here(&cache, name) {
                Ok(path) => {
                    watcher.note(&format!(
                        "{failure}; taking `{name}` as it was fetched before: {}",
                        path.display()
                    ));
                    Ok(path)
                }
                Err(there) => Err(HubError::Away {
                    model: name.to_string(),
                    hub: self.settings.endpoint.clone(),
                    there,
                    source: Box::new(failure),
                }),
            },
            Err(failure) => Err(of_model(failure, &self.client, name)),
        }
    }

    async fn listing(
        &self,
        name: &HubName,
        watcher: &dyn FetchWatcher,
    ) -> Result<Listing, CallError> {
        let mut tries = Tries::new(self.settings.patience);
        loop {
            match listing(&self.client, name).await {
                // what is here need not wait for a network that is not
                answered @ (Ok(_)
                | Err(CallError::Unreachable { .. } | CallError::Silent { .. })) => {
                    return answered;
                }
                Err(failure) => tries.after(failure, &name.to_string(), watcher).await?,
            }
        }
    }

    async fn complete(
        &self,
        cache: &RepoCache,
        name: &HubName,
        listing: &Listing,
        watcher: &dyn FetchWatcher,
    ) -> Result<PathBuf, HubError> {
        let none = |problem| HubError::NoCheckpoint {
            model: name.to_string(),
            problem,
        };
        let commit = &listing.commit;
        let selection = select(&listing.files, &name.wanted).map_err(none)?;
        let disk = |source| HubError::disk(cache.root(), source);
        let tally = Tally::new(watcher);
        let downloads = Downloads {
            client: &self.client,
            cache,
            tally: &tally,
            patience: self.settings.patience,
            name,
        };
        let Selection { beside, tensors } = &selection;
        let first: Vec<_> = match tensors {
            Tensors::Single(path) | Tensors::Gguf(path) => beside.iter().chain([path]).collect(),
            Tensors::Shards(_) => beside.iter().collect(),
        };
        self.bring(&downloads, commit, first).await?;
        if let Tensors::Shards(index) = tensors {
            let shards = named_by(cache, commit, index, &listing.files)?.map_err(none)?;
            let shards = shards.iter().collect();
            self.bring(&downloads, commit, shards).await?;
        }
        // last: what a revision names is whole
        cache.note(&name.revision, commit).map_err(disk)?;
        Ok(place(cache, commit, tensors))
    }

    /// Brings files into a snapshot.
    async fn bring(
        &self,
        downloads: &Downloads<'_>,
        commit: &Commit,
        files: Vec<&RepoPath>,
    ) -> Result<(), HubError> {
        let cache = downloads.cache;
        let missing = files.into_iter().filter(|path| !cache.has(commit, path));
        let described = stream::iter(missing).map(|path| self.describe(downloads, commit, path));
        let files: Vec<_> = described.buffered(ASKED).try_collect().await?;
        if files.is_empty() {
            // the cache may be on a disk that cannot be written to
            return Ok(());
        }
        let prepared = cache.prepare();
        prepared.map_err(|source| HubError::disk(cache.root(), source))?;
        let bytes = files.iter().map(|file| file.size).sum();
        if bytes > 0 {
            downloads.tally.watcher().planned(bytes);
        }
        let fetched = stream::iter(&files).map(|file| async move {
            downloads.fetch(file).await?;
            let linked = cache.link(commit, &file.path, &file.etag);
            linked.map_err(|source| HubError::disk(&cache.snapshot(commit), source))
        });
        fetched.buffer_unordered(FETCHED).try_collect().await
    }

    async fn describe(
        &self,
        downloads: &Downloads<'_>,
        commit: &Commit,
        path: &RepoPath,
    ) -> Result<RemoteFile, HubError> {
        let name = downloads.name;
        let mut tries = Tries::new(self.settings.patience);
        let watcher = downloads.tally.watcher();
        loop {
            let failure = match describe(&self.client, name, commit, path).await {
                Ok(file) => return Ok(file),
                Err(failure) => failure,
            };
            let waited = tries.after(failure, path.as_str(), watcher).await;
            waited.map_err(|failure| of_file(failure, &self.client, name, path))?;
        }
    }
}

/// The tensor files that an index of a snapshot names, or why they cannot be told.
fn named_by(
    cache: &RepoCache,
    commit: &Commit,
    index: &RepoPath,
    files: &BTreeSet<RepoPath>,
) -> Result<Result<BTreeSet<RepoPath>, NoCheckpoint>, HubError> {
    let path = cache.snapshot(commit).join(index.as_str());
    let text = std::fs::read(&path).map_err(|source| HubError::disk(&path, source))?;
    Ok(shards(&text, files))
}

/// What is served of a snapshot.
fn place(cache: &RepoCache, commit: &Commit, tensors: &Tensors) -> PathBuf {
    let snapshot = cache.snapshot(commit);
    match tensors {
        Tensors::Gguf(path) => snapshot.join(path.as_str()),
        Tensors::Single(_) | Tensors::Shards(_) => snapshot,
    }
}

/// What is here of a model, if it is whole; else what is missing, in words.
fn here(cache: &RepoCache, name: &HubName) -> Result<PathBuf, String> {
    let (revision, root) = (&name.revision, cache.root().display());
    let Some(commit) = cache.commit_of(revision) else {
        return Err(format!("nothing of revision `{revision}` is in {root}"));
    };
    let files = cache.files(&commit);
    if files.is_empty() {
        return Err(format!("nothing of revision `{revision}` is in {root}"));
    }
    let incomplete =
        |problem: &dyn std::fmt::Display| format!("what was fetched of it to {root} {problem}");
    let selection = select(&files, &name.wanted).map_err(|problem| incomplete(&problem))?;
    if let Tensors::Shards(index) = &selection.tensors {
        let named = named_by(cache, &commit, index, &files);
        let named = named.map_err(|error| incomplete(&format!("cannot be read ({error})")))?;
        named.map_err(|problem| incomplete(&problem))?;
    }
    Ok(place(cache, &commit, &selection.tensors))
}

//! Checkpoints in a bucket, each below a place of its own: `PLACE/ID/FILE`.
//!
//! The manifest is written last and removed first, so a checkpoint that has one is whole. What
//! comes back is checked while it comes, against the id alone: the bucket is believed nothing.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tokio::runtime::Handle;

use super::RegistryError;
use super::files::{self, CHECKPOINT_FILES};
use super::manifest::{CheckpointId, CheckpointManifest, FileRecord, MANIFEST_FILE};
use super::verify::MANIFEST_LIMIT;
use crate::storage::Bucket;

/// Where a registry keeps its own.
pub(super) const OWN: &str = "checkpoints";

/// A place in a bucket. Its calls block; they must not be made on a thread of `runtime` that runs
/// tasks.
#[derive(Debug, Clone)]
pub(super) struct Place {
    bucket: Bucket,
    runtime: Handle,
    name: String,
}

impl Place {
    pub(super) fn new(bucket: Bucket, runtime: Handle, name: impl Into<String>) -> Self {
        Self {
            bucket,
            runtime,
            name: name.into(),
        }
    }

    fn place_of(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    fn key(&self, id: &CheckpointId, file: &str) -> String {
        self.place_of(&format!("{id}/{file}"))
    }

    /// Writes a folder's checkpoint; its id.
    pub(super) fn upload(&self, folder: &Path) -> Result<CheckpointId, RegistryError> {
        let manifest = files::describe(folder)?.to_bytes();
        let id = CheckpointId::of(&manifest);
        for name in CHECKPOINT_FILES {
            self.put(&format!("{id}/{name}"), &folder.join(name))?;
        }
        let key = self.key(&id, MANIFEST_FILE);
        self.runtime.block_on(self.bucket.put(&key, manifest))?;
        Ok(id)
    }

    /// Brings a checkpoint into the folder of all checkpoints.
    pub(super) fn fetch(&self, root: &Path, id: &CheckpointId) -> Result<i64, RegistryError> {
        let manifest = self.manifest(id)?;
        files::import_with(root, |draft| {
            for (name, record) in &manifest.files {
                self.fetch_file(id, name, record, &draft.join(name))?;
            }
            Ok(manifest.clone())
        })
        .map(|(_, bytes)| bytes)
    }

    fn manifest(&self, id: &CheckpointId) -> Result<CheckpointManifest, RegistryError> {
        let damaged = |problem: &str| RegistryError::damaged(id, MANIFEST_FILE, problem);
        let mut bytes = Vec::new();
        let there = self.read(&self.key(id, MANIFEST_FILE), MANIFEST_LIMIT, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        match there {
            Read::Nothing => return Err(RegistryError::NotThere { id: id.to_string() }),
            Read::TooMuch => return Err(damaged("of the bucket is no short list")),
            Read::All => {}
        }
        if CheckpointId::of(&bytes) != *id {
            return Err(damaged(
                "of the bucket is not what its checkpoint is named after",
            ));
        }
        let manifest = CheckpointManifest::parse(&bytes).map_err(|problem| damaged(&problem))?;
        // names become paths
        match manifest
            .files
            .keys()
            .map(String::as_str)
            .eq(CHECKPOINT_FILES)
        {
            true => Ok(manifest),
            false => Err(damaged("lists other files than a checkpoint has")),
        }
    }

    fn fetch_file(
        &self,
        id: &CheckpointId,
        name: &str,
        record: &FileRecord,
        to: &Path,
    ) -> Result<(), RegistryError> {
        match self.fetch_object(&format!("{id}/{name}"), record, to)? {
            true => Ok(()),
            false => {
                let problem = "of the bucket does not have the content it was written with";
                Err(RegistryError::damaged(id, name, problem))
            }
        }
    }

    /// Brings an object of this place into a new file; false where its bytes are not those of
    /// `record`.
    pub(super) fn fetch_object(
        &self,
        name: &str,
        record: &FileRecord,
        to: &Path,
    ) -> Result<bool, RegistryError> {
        let writing = |source| RegistryError::file(to, source);
        let mut file = File::create_new(to).map_err(writing)?;
        let mut hasher = blake3::Hasher::new();
        let mut count = 0;
        let read = self.read(&self.place_of(name), record.bytes, |piece| {
            hasher.update(piece);
            count += piece.len() as u64;
            file.write_all(piece)
        })?;
        file.sync_all().map_err(writing)?;
        Ok(matches!(read, Read::All)
            && count == record.bytes
            && hasher.finalize().to_hex().as_str() == record.blake3)
    }

    /// Writes a file's bytes as an object of this place.
    pub(super) fn put(&self, name: &str, from: &Path) -> Result<(), RegistryError> {
        let put = self
            .bucket
            .put_file(&self.runtime, &self.place_of(name), from);
        Ok(put?)
    }

    /// Removes an object of this place.
    pub(super) fn remove_object(&self, name: &str) -> Result<(), RegistryError> {
        let key = self.place_of(name);
        Ok(self.runtime.block_on(self.bucket.remove(&key))?)
    }

    /// Reads an object of at most `most` bytes.
    fn read(
        &self,
        key: &str,
        most: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Read, RegistryError> {
        let mut left = most;
        let mut is_full = false;
        let read = self.bucket.read(key, |piece| {
            let Some(rest) = left.checked_sub(piece.len() as u64) else {
                is_full = true;
                return Err(io::Error::other("it is larger than it should be"));
            };
            left = rest;
            take(piece)
        });
        match self.runtime.block_on(read) {
            Ok(true) => Ok(Read::All),
            Ok(false) => Ok(Read::Nothing),
            Err(_) if is_full => Ok(Read::TooMuch),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a checkpoint.
    pub(super) fn remove(&self, id: &CheckpointId) -> Result<(), RegistryError> {
        for name in [MANIFEST_FILE].into_iter().chain(CHECKPOINT_FILES) {
            self.remove_object(&format!("{id}/{name}"))?;
        }
        Ok(())
    }
}

/// How the reading of an object went.
enum Read {
    All,
    Nothing,
    TooMuch,
}

//! Files that were uploaded for jobs to read: in the data folder, and in the bucket for workers and
//! servers that do not see that folder. Like checkpoints they are believed only by their hash.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;
use uuid::Uuid;

use super::RegistryError;
use super::manifest::FileRecord;
use super::remote::Place;
use super::verify::{self, Unsound};
use crate::storage::Bucket;

/// Their folder below the data folder, and their place in a bucket.
const FOLDER: &str = "files";

/// Every uploaded file's content. Its calls block, on a thread that runs no task of the runtime.
#[derive(Debug, Clone)]
pub struct Uploads {
    root: PathBuf,
    place: Option<Place>,
}

impl Uploads {
    /// Those of a data folder, and of a bucket where there is one.
    pub fn new(data_dir: &Path, bucket: Option<&Bucket>, runtime: &Handle) -> Self {
        let place = |bucket: &Bucket| Place::new(bucket.clone(), runtime.clone(), FOLDER);
        Self {
            root: data_dir.join(FOLDER),
            place: bucket.map(place),
        }
    }

    /// Where they lie on this machine.
    pub fn folder(&self) -> &Path {
        &self.root
    }

    /// Where the file of an id lies on this machine, if it does.
    pub fn path(&self, id: &str) -> PathBuf {
        self.root.join(format!("{id}.jsonl"))
    }

    /// Writes a file that is whole on this machine to the bucket, where there is one.
    ///
    /// # Errors
    /// It cannot be read, or the bucket fails.
    pub fn publish(&self, id: &str) -> Result<(), RegistryError> {
        match &self.place {
            Some(place) => place.put(id, &self.path(id)),
            None => Ok(()),
        }
    }

    /// Where a file lies on this machine, after its bytes were found to be those that were
    /// uploaded; what is missing or damaged is fetched from the bucket, where there is one.
    ///
    /// # Errors
    /// It cannot be had as it was uploaded, or the bucket fails.
    pub fn checked(&self, id: &str, record: &FileRecord) -> Result<PathBuf, RegistryError> {
        let path = self.path(id);
        match (verify::check(&path, record), &self.place) {
            (Ok(()), _) => {}
            (Err(_), Some(place)) => self.fetch(place, id, record)?,
            (Err(Unsound::Unreadable(source)), None) => {
                return Err(RegistryError::file(path, source));
            }
            (Err(Unsound::Differs(_)), None) if !path.exists() => {
                return Err(RegistryError::UploadMissing { id: id.to_owned() });
            }
            (Err(Unsound::Differs(problem)), None) => {
                let id = id.to_owned();
                return Err(RegistryError::Upload { id, problem });
            }
        }
        Ok(path)
    }

    fn fetch(&self, place: &Place, id: &str, record: &FileRecord) -> Result<(), RegistryError> {
        let failed = |source| RegistryError::file(&self.root, source);
        fs::create_dir_all(&self.root).map_err(failed)?;
        // several workers may fetch it at once
        let draft = self
            .root
            .join(format!(".draft-{}", Uuid::new_v4().simple()));
        let fetched = match place.fetch_object(id, record, &draft) {
            Ok(true) => fs::rename(&draft, self.path(id))
                .and_then(|()| File::open(&self.root)?.sync_all())
                .map_err(failed),
            Ok(false) => Err(RegistryError::Upload {
                id: id.to_owned(),
                problem: "is not in the bucket as it was uploaded".to_owned(),
            }),
            Err(error) => Err(error),
        };
        if fetched.is_err() {
            // what a full disk left behind should not keep it full; the first error is the one to
            // tell
            let _ = fs::remove_file(&draft);
        }
        fetched
    }

    /// Removes a file here and in the bucket; one that is not there is no error.
    ///
    /// # Errors
    /// It cannot be removed, or the bucket fails.
    pub fn remove(&self, id: &str) -> Result<(), RegistryError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RegistryError::file(path, error));
            }
            _ => {}
        }
        match &self.place {
            Some(place) => place.remove_object(id),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "file-1";

    fn record(bytes: &[u8]) -> FileRecord {
        FileRecord {
            bytes: bytes.len() as u64,
            blake3: blake3::hash(bytes).to_hex().to_string(),
        }
    }

    fn put(uploads: &Uploads, bytes: &[u8]) {
        fs::create_dir_all(uploads.folder()).expect("made");
        fs::write(uploads.path(ID), bytes).expect("written");
    }

    #[test]
    fn a_file_is_had_from_the_bucket_where_it_is_missing_or_damaged() {
        let runtime = tokio::runtime::Runtime::new().expect("starts");
        let (here, there) = (tempfile::tempdir(), tempfile::tempdir());
        let (here, there) = (here.expect("a folder"), there.expect("a folder"));
        let bucket = Bucket::in_memory();
        let uploads = |folder: &Path| Uploads::new(folder, Some(&bucket), runtime.handle());
        let (here, there) = (uploads(here.path()), uploads(there.path()));
        let rows = b"{\"text\":\"a\"}\n";
        put(&here, rows);
        here.publish(ID).expect("taken");
        let had = || fs::read(there.checked(ID, &record(rows)).expect("had")).expect("read");
        assert_eq!(had(), rows);
        put(&there, b"{\"text\":\"b\"}\n");
        assert_eq!(had(), rows, "damage is mended");
        here.remove(ID).expect("gone");
        assert_eq!(had(), rows, "what is sound here is not asked for");
        there.remove(ID).expect("gone");
        there.remove(ID).expect("gone already");
        let lost = there.checked(ID, &record(rows)).expect_err("lost");
        assert!(lost.to_string().contains(ID), "{lost}");
    }

    #[test]
    fn a_bucket_is_not_believed() {
        let runtime = tokio::runtime::Runtime::new().expect("starts");
        let folder = tempfile::tempdir().expect("a folder");
        let bucket = Bucket::in_memory();
        let uploads = Uploads::new(folder.path(), Some(&bucket), runtime.handle());
        let rows = b"{\"text\":\"a\"}\n";
        for wrong in [&b"{\"text\":\"b\"}\n"[..], b"{", b"{\"text\":\"a\"}\n\n"] {
            put(&uploads, wrong);
            uploads.publish(ID).expect("taken");
            fs::remove_file(uploads.path(ID)).expect("gone");
            let refused = uploads.checked(ID, &record(rows)).expect_err("refused");
            assert!(matches!(refused, RegistryError::Upload { .. }), "{refused}");
            let left = fs::read_dir(uploads.folder()).expect("read").count();
            assert_eq!(left, 0, "nothing is left behind");
        }
    }

    #[test]
    fn without_a_bucket_what_is_damaged_is_refused() {
        let runtime = tokio::runtime::Runtime::new().expect("starts");
        let folder = tempfile::tempdir().expect("a folder");
        let uploads = Uploads::new(folder.path(), None, runtime.handle());
        uploads.publish(ID).expect("nothing to do");
        let missing = uploads.checked(ID, &record(b"{}")).expect_err("missing");
        assert!(missing.to_string().contains("--registry"), "{missing}");
        put(&uploads, b"{}");
        assert!(uploads.checked(ID, &record(b"{}")).is_ok());
        let refused = uploads.checked(ID, &record(b"[]")).expect_err("refused");
        assert!(
            refused.to_string().contains("does not have the content"),
            "{refused}"
        );
    }
}

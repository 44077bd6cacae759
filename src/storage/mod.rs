//! Bytes by key in a bucket that speaks S3.
//!
//! Knows nothing of what the bytes are: whoever asks checks them. Where the bucket is and who may
//! use it stands in the variables that every tool of AWS reads.

mod connector;
mod error;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};
use tokio::runtime::Handle;

use connector::Connector;
pub use error::StorageError;

const SCHEME: &str = "s3://";
/// Bytes that are held of a file on its way; S3 takes no part below 5 MiB but the last.
const PIECE: usize = 8 << 20;
/// How long what may pass is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRIES: usize = 5;
/// How long a bucket may be silent in the middle of an object.
const SILENCE: Duration = Duration::from_secs(60);

/// A bucket, or what lies below a prefix of it. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    address: Arc<str>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.address)
    }
}

impl Bucket {
    /// The bucket of `s3://BUCKET/PREFIX`; the variables `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` and `AWS_ENDPOINT_URL` say the
    /// rest. Nothing is asked of it yet.
    ///
    /// # Errors
    /// The address or a variable cannot be used.
    pub fn open(address: &str) -> Result<Self, StorageError> {
        let wrong = || StorageError::Address(address.to_owned());
        let place = address.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        if name.is_empty() || prefix.starts_with('/') || name.contains(['?', '#', '@', ':']) {
            return Err(wrong());
        }
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|_| wrong())?;
        let objects = AmazonS3Builder::from_env()
            .with_bucket_name(name)
            .with_http_connector(Connector)
            .with_retry(RetryConfig {
                max_retries: RETRIES,
                retry_timeout: PATIENCE,
                ..RetryConfig::default()
            })
            .build()
            .map_err(|source| StorageError::Settings(Box::new(source)))?;
        Ok(Self {
            objects: Arc::new(objects),
            prefix,
            address: address.into(),
        })
    }

    /// A bucket that is gone with the process.
    pub fn in_memory() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            prefix: Path::default(),
            address: "memory".into(),
        }
    }

    /// Where it is, without who may use it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Writes an object, instead of the one that has the key.
    ///
    /// # Errors
    /// The bucket does not take it.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), StorageError> {
        let put = self.objects.put(&self.key(key), bytes.into()).await;
        put.map(drop)
            .map_err(|source| self.failed("write", key, source))
    }

    /// Writes a file's bytes as an object, in parts where there are many. Reads the file on the
    /// calling thread, which `runtime` must not be running on.
    ///
    /// # Errors
    /// The file cannot be read, or the bucket does not take it.
    pub fn put_file(
        &self,
        runtime: &Handle,
        key: &str,
        from: &FilePath,
    ) -> Result<(), StorageError> {
        let unreadable = |source| StorageError::file(from, source);
        let mut file = File::open(from).map_err(unreadable)?;
        let mut piece = read_piece(&mut file).map_err(unreadable)?;
        if piece.len() < PIECE {
            return runtime.block_on(self.put(key, piece));
        }
        let refused = |source| self.failed("write", key, source);
        let begun = runtime.block_on(self.objects.put_multipart(&self.key(key)));
        let mut upload = WriteMultipart::new_with_chunk_size(begun.map_err(refused)?, PIECE);
        while !piece.is_empty() {
            runtime
                .block_on(async {
                    upload.write(&piece);
                    upload.wait_for_capacity(1).await
                })
                .map_err(refused)?;
            piece = read_piece(&mut file).map_err(unreadable)?;
        }
        let finished = runtime.block_on(upload.finish());
        finished.map(drop).map_err(refused)
    }

    /// Hands the pieces of an object to `take` as they come; false where there is no such object.
    ///
    /// # Errors
    /// The bucket does not answer, or `take` fails, for example because there is too much.
    pub async fn read(
        &self,
        key: &str,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<bool, StorageError> {
        let found = match self.objects.get(&self.key(key)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            found => found.map_err(|source| self.failed("read", key, source))?,
        };
        let mut pieces = found.into_stream();
        loop {
            let next = tokio::time::timeout(SILENCE, pieces.next()).await;
            let Some(piece) = next.map_err(|_| self.silent(key))? else {
                return Ok(true);
            };
            let piece = piece.map_err(|source| self.failed("read", key, source))?;
            take(&piece).map_err(|source| StorageError::Taken {
                key: key.to_owned(),
                source,
            })?;
        }
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The bucket does not answer.
    pub async fn remove(&self, key: &str) -> Result<(), StorageError> {
        match self.objects.delete(&self.key(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.failed("remove", key, source)),
        }
    }

    fn key(&self, key: &str) -> Path {
        let below = key.split('/').filter(|part| !part.is_empty());
        below.fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn failed(&self, verb: &'static str, key: &str, source: object_store::Error) -> StorageError {
        StorageError::Request {
            address: self.address.to_string(),
            verb,
            key: key.to_owned(),
            source: Box::new(source),
        }
    }

    fn silent(&self, key: &str) -> StorageError {
        StorageError::Silent {
            address: self.address.to_string(),
            key: key.to_owned(),
            seconds: SILENCE.as_secs(),
        }
    }
}

/// Up to `PIECE` bytes; fewer only at the file's end.
fn read_piece(file: &mut File) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    file.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_perhaps_a_prefix() {
        for address in ["s3://b", "s3://b/", "s3://b/models/eu", "s3://b-1.c/x/"] {
            assert!(Bucket::open(address).is_ok(), "{address}");
        }
        for address in [
            "",
            "b",
            "s3://",
            "s3:///x",
            "https://b/x",
            "s3://b/../x",
            "s3://b//x",
            "s3://user:secret@b/x",
            "s3://b?x=1",
        ] {
            let error = Bucket::open(address).expect_err(address);
            assert!(error.to_string().contains("s3://BUCKET/PREFIX"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_put_is_read_and_can_be_removed() {
        let bucket = Bucket::in_memory();
        let mut seen = Vec::new();
        let key = "checkpoints/a/b.json";
        assert!(!bucket.read(key, |_| Ok(())).await.expect("answers"));
        bucket.put(key, b"abc".to_vec()).await.expect("takes it");
        let taken = bucket.read(key, |piece| {
            seen.extend_from_slice(piece);
            Ok(())
        });
        assert!(taken.await.expect("answers"));
        assert_eq!(seen, b"abc");
        let full = bucket.read(key, |_| Err(io::Error::other("full")));
        assert!(matches!(full.await, Err(StorageError::Taken { .. })));
        for _ in 0..2 {
            bucket.remove(key).await.expect("answers");
        }
        assert!(!bucket.read(key, |_| Ok(())).await.expect("answers"));
    }

    #[test]
    fn a_large_file_goes_in_parts_and_comes_back_whole() {
        let runtime = tokio::runtime::Runtime::new().expect("starts");
        let folder = tempfile::tempdir().expect("a folder");
        let bucket = Bucket::in_memory();
        for length in [0, 10, PIECE, PIECE * 2 + 5] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
            let path = folder.path().join("file");
            std::fs::write(&path, &bytes).expect("written");
            let put = bucket.put_file(runtime.handle(), "file", &path);
            put.expect("takes it");
            let mut seen = Vec::new();
            let read = bucket.read("file", |piece| {
                seen.extend_from_slice(piece);
                Ok(())
            });
            assert!(runtime.block_on(read).expect("answers"));
            assert!(seen == bytes, "{length} bytes");
        }
    }
}

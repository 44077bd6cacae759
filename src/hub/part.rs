//! A file on its way: what of it is here lies beside the blob as `ETAG.incomplete`, where the next
//! run goes on with it.
//!
//! On a network file system whose locks hold nobody back two runs may write it at once: each writes
//! at places of its own count, so both write the same bytes to the same places.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::etag::{Check, Etag};

/// Bytes read at a time of what is here already.
const AT_ONCE: usize = 1 << 20;

/// The beginning of a file's content. Its length and check always tell of what was written.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    etag: Etag,
    size: u64,
    length: u64,
    check: Check,
}

impl Part {
    /// Takes up what is there, or begins. Under the blob's lock only.
    pub(super) async fn open(path: PathBuf, etag: &Etag, size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = options.open(&path)?;
        let mut part = Self {
            check: Check::new(etag, size),
            etag: etag.clone(),
            length: 0,
            path,
            file,
            size,
        };
        match part.file.metadata()?.len() {
            0 => {}
            there if there > size => part.restart()?,
            _ => part.read_through().await?,
        }
        Ok(part)
    }

    async fn read_through(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; AT_ONCE];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.check.update(&buffer[..count]);
            self.length += count as u64;
            // gigabytes may be here: whoever waits beside this, for a signal, has its turns
            tokio::task::yield_now().await;
        }
    }

    /// Bytes that are here.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == self.size
    }

    /// Whether so many more bytes belong to it.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.length + more as u64 <= self.size
    }

    /// Appends what came.
    pub(super) fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut left = piece;
        while !left.is_empty() {
            // not write_all: after an error the length must be known
            let count = match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.check.update(&left[..count]);
            self.length += count as u64;
            left = &left[count..];
        }
        Ok(())
    }

    /// Throws away what is here.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.length = 0;
        self.check = Check::new(&self.etag, self.size);
        Ok(())
    }

    /// Whether a full part is the content that its ETag names.
    pub(super) fn is_sound(&self) -> bool {
        self.check.holds()
    }

    /// Makes a full and sound part the blob.
    pub(super) async fn keep(self, blob: &Path) -> io::Result<()> {
        let Self { path, file, .. } = self;
        let blob = blob.to_owned();
        let kept = tokio::task::spawn_blocking(move || {
            // a blob is whole by its name alone, after a power cut too
            file.sync_all()?;
            std::fs::rename(path, blob)
        });
        kept.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";

    #[tokio::test]
    async fn a_part_goes_on_where_it_was_left_and_becomes_the_blob() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, blob) = (folder.path().join("x.incomplete"), folder.path().join("x"));
        let etag = Etag::parse(SUM).expect("sound");
        let mut part = Part::open(path.clone(), &etag, 3).await.expect("begun");
        part.push(b"h").expect("written");
        drop(part);
        let mut part = Part::open(path.clone(), &etag, 3).await.expect("taken up");
        assert_eq!(
            (part.length(), part.is_full(), part.has_room(3)),
            (1, false, false)
        );
        part.push(b"i\n").expect("written");
        assert!(part.is_full() && part.is_sound());
        part.keep(&blob).await.expect("kept");
        assert_eq!(std::fs::read(&blob).expect("there"), b"hi\n");
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn wrong_bytes_are_seen_and_thrown_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.incomplete");
        std::fs::write(&path, "longer than it should be").expect("written");
        let etag = Etag::parse(SUM).expect("sound");
        let mut part = Part::open(path, &etag, 3).await.expect("begun");
        assert_eq!(part.length(), 0, "what is too long cannot be a beginning");
        part.push(b"ho\n").expect("written");
        assert!(part.is_full() && !part.is_sound());
        part.restart().expect("emptied");
        part.push(b"hi\n").expect("written");
        assert!(part.is_sound());
    }
}

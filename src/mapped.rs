//! Files mapped into memory to be read, and pages of them given back to the system.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

/// A file's bytes, read from disk where they are touched.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file as long as it is now.
    ///
    /// # Errors
    /// It cannot be opened or mapped.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is only read. Checkpoint files are written beside and renamed into
        // place, never changed in place; a foreign process that truncates a mapped file ends this
        // one, as with every reader of mapped files.
        Ok(Self(unsafe { Mmap::map(&file) }?))
    }

    /// Tells the system that these bytes, a part of the file's, are not needed in memory for now.
    /// Bytes of something else are left alone.
    pub fn let_go(&self, part: &[u8]) {
        let first = part.as_ptr().addr().wrapping_sub(self.0.as_ptr().addr());
        if first
            .checked_add(part.len())
            .is_none_or(|end| end > self.0.len())
        {
            return;
        }
        let unneeded = UncheckedAdvice::DontNeed;
        // SAFETY: the map is only read, and of a file: pages that are let go are read from it again.
        let advised = unsafe { self.0.unchecked_advise_range(unneeded, first, part.len()) };
        if let Err(error) = advised {
            // Nothing depends on it but the memory that is seen to be used.
            tracing::debug!(%error, "pages of a file stay in memory");
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of a mapped file that count as this process's memory.
    fn resident(path: &Path) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let name = path.to_str().unwrap();
        let mut own = maps.lines().skip_while(|line| !line.ends_with(name));
        let line = own.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn pages_that_are_let_go_leave_memory_and_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("numbers");
        let bytes: Vec<u8> = (0..1 << 20).map(|index| (index % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(*file, bytes[..]);
        assert_eq!(resident(&path), 1024);

        file.let_go(&bytes);
        assert_eq!(resident(&path), 1024, "those were another's bytes");
        file.let_go(&file[256 << 10..]);
        assert_eq!(resident(&path), 256);
        assert_eq!(*file, bytes[..]);
    }
}

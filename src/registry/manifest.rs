//! What a checkpoint folder holds, to the bit, and the name that follows from it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::RegistryError;

/// The file beside a checkpoint's files that lists them.
pub const MANIFEST_FILE: &str = "checkpoint.json";
const FORMAT_VERSION: u32 = 1;

/// The blake3 hash of a checkpoint's manifest, in hexadecimal, and so of all its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckpointId(String);

/// Everything a checkpoint folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointManifest {
    /// Version of this layout; 1.
    pub format_version: u32,
    /// By file name.
    pub files: BTreeMap<String, FileRecord>,
}

/// One file's size and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Its size in bytes.
    pub bytes: u64,
    /// blake3 of its content, in hexadecimal.
    pub blake3: String,
}

impl CheckpointId {
    /// Reads an id.
    ///
    /// # Errors
    /// It is not of the form.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let sound = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.len() == 64 && text.bytes().all(sound) {
            true => Ok(Self(text.to_owned())),
            false => Err(RegistryError::BadId(text.chars().take(80).collect())),
        }
    }

    /// The id of a manifest's bytes.
    pub fn of(manifest: &[u8]) -> Self {
        Self(blake3::hash(manifest).to_hex().to_string())
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CheckpointManifest {
    pub(super) fn new(files: BTreeMap<String, FileRecord>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            files,
        }
    }

    /// The manifest's own bytes, always the same for the same files.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::json!(self).to_string();
        text.push('\n');
        text.into_bytes()
    }

    /// Reads a manifest; the reason where it is none.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match manifest.format_version {
            FORMAT_VERSION => Ok(manifest),
            other => Err(format!("has format {other}, expected {FORMAT_VERSION}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_digits_and_never_a_path() {
        assert!(CheckpointId::parse(&"a0".repeat(32)).is_ok());
        for text in [
            "",
            "..",
            "a0",
            &"A0".repeat(32),
            &"../".repeat(22),
            &"g0".repeat(32),
        ] {
            assert!(CheckpointId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_manifest_has_one_spelling() {
        let record = FileRecord {
            bytes: 3,
            blake3: "ab".repeat(32),
        };
        let manifest = CheckpointManifest::new(BTreeMap::from([("a".to_owned(), record)]));
        let bytes = manifest.to_bytes();
        let read = CheckpointManifest::parse(&bytes).expect("sound");
        assert_eq!(read, manifest);
        assert_eq!(read.to_bytes(), bytes);
    }
}

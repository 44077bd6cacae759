//! Names checkpoints by their content, so that a version says which bytes answered.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rayon::prelude::*;

use super::TrainingError;

/// Bytes hashed as one piece; large files hash their pieces side by side.
const PIECE: u64 = 16 << 20;
/// Bytes that a thread reads at a time.
const AT_ONCE: usize = 256 << 10;

/// Hash of the named files of a folder, those that are missing told apart from empty ones.
///
/// # Errors
/// A file that is there cannot be read.
pub fn hash_files(dir: &Path, names: &[&str]) -> Result<blake3::Hash, TrainingError> {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        match hash_file(&dir.join(name))? {
            Some(hash) => hasher.update(&[1]).update(hash.as_bytes()),
            None => hasher.update(&[0]),
        };
    }
    Ok(hasher.finalize())
}

fn hash_file(path: &Path) -> Result<Option<blake3::Hash>, TrainingError> {
    let failed = |source| TrainingError::file(path, source);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len();
    let piece = |buffer: &mut Vec<u8>, index: u64| {
        let (mut start, end) = (index * PIECE, length.min((index + 1) * PIECE));
        let mut hasher = blake3::Hasher::new();
        buffer.resize(AT_ONCE, 0);
        while start < end {
            let bytes = &mut buffer[..AT_ONCE.min((end - start) as usize)];
            file.read_exact_at(bytes, start)?;
            hasher.update(bytes);
            start += bytes.len() as u64;
        }
        Ok(hasher.finalize())
    };
    let pieces = (0..length.div_ceil(PIECE)).into_par_iter();
    let pieces = pieces.map_init(Vec::new, piece);
    let pieces = pieces
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length.to_le_bytes());
    for piece in pieces {
        hasher.update(piece.as_bytes());
    }
    Ok(Some(hasher.finalize()))
}

/// Hash of a base model: its configuration, tokenizer and tensors, in hex.
///
/// # Errors
/// A file that is there cannot be read.
pub fn base_hash(dir: &Path) -> Result<String, TrainingError> {
    let failed = |source| TrainingError::file(dir, source);
    let mut names = vec!["config.json".to_owned(), "tokenizer.json".to_owned()];
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry
            .map_err(failed)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let is_model = name.starts_with("model") && name.ends_with(".safetensors");
        if is_model || name == "model.safetensors.index.json" {
            names.push(name);
        }
    }
    names.sort();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    Ok(hash_files(dir, &names)?.to_hex().to_string())
}

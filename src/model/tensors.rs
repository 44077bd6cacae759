//! Where a model's tensors come from: mapped safetensors files, or trainable variables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::ModelError;

/// Hands out tensors by name, as f32 on the CPU.
pub trait TensorSource {
    /// The tensor of that name and shape.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError>;

    /// True if there is a tensor of that name.
    fn has(&self, name: &str) -> bool;
}

/// The safetensors files of one folder, mapped into memory.
pub struct TensorFiles {
    files: Vec<(PathBuf, Mmap)>,
    place: BTreeMap<String, usize>,
    taken: BTreeSet<String>,
}

/// Largest header read, in bytes; a header lists names and shapes only.
const MAX_HEADER: u64 = 16 << 20;

impl TensorFiles {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let single = dir.join("model.safetensors");
        if single.exists() {
            return Self::map(vec![single]);
        }
        let index = dir.join("model.safetensors.index.json");
        if index.exists() {
            return Self::map(shards(dir, &index)?);
        }
        let pickle = [
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "model.pt",
            "model.pth",
        ]
        .into_iter()
        .map(|name| dir.join(name))
        .find(|path| path.exists());
        Err(match pickle {
            Some(path) => ModelError::Pickle { path },
            None => ModelError::NoTensors {
                path: dir.to_owned(),
            },
        })
    }

    /// Maps one file.
    pub fn open_file(path: &Path) -> Result<Self, ModelError> {
        Self::map(vec![path.to_owned()])
    }

    fn map(paths: Vec<PathBuf>) -> Result<Self, ModelError> {
        let mut files = Vec::new();
        let mut place = BTreeMap::new();
        for path in paths {
            let io = |source| ModelError::Io {
                path: path.clone(),
                source,
            };
            let file = File::open(&path).map_err(io)?;
            // SAFETY: the mapping is only read. Checkpoint files are written beside and renamed
            // into place, never changed in place; a foreign process that truncates a mapped
            // file ends this one, as with every reader of mapped files.
            let map = unsafe { Mmap::map(&file) }.map_err(io)?;
            let invalid = |reason: String| ModelError::Invalid {
                path: path.clone(),
                reason,
            };
            check_header(&map).map_err(invalid)?;
            let view = SafeTensors::deserialize(&map).map_err(|error| {
                invalid(format!(
                    "not a whole safetensors file ({error}); download it again"
                ))
            })?;
            for name in view.names() {
                if place.insert(name.to_owned(), files.len()).is_some() {
                    return Err(invalid(format!("tensor `{name}` is in two files")));
                }
            }
            files.push((path, map));
        }
        Ok(Self {
            files,
            place,
            taken: BTreeSet::new(),
        })
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.with_view(name, |view| view.shape().to_vec()).ok()
    }

    /// Names of tensors that nobody has asked for.
    pub fn untouched(&self) -> impl Iterator<Item = &str> {
        self.names().filter(|name| !self.taken.contains(*name))
    }

    fn with_view<T>(
        &self,
        name: &str,
        read: impl FnOnce(TensorView<'_>) -> T,
    ) -> Result<T, ModelError> {
        let missing = |reason: String| ModelError::Tensor {
            name: name.to_owned(),
            reason,
        };
        let index = self
            .place
            .get(name)
            .ok_or_else(|| missing("is missing".into()))?;
        let (_, map) = &self.files[*index];
        let view = SafeTensors::deserialize(map).map_err(|error| missing(error.to_string()))?;
        let view = view
            .tensor(name)
            .map_err(|error| missing(error.to_string()))?;
        Ok(read(view))
    }
}

/// Refuses headers that are too long before anything is allocated for them.
fn check_header(map: &[u8]) -> Result<(), String> {
    let length = map
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes));
    match length {
        None => Err(format!(
            "{} bytes are too few for a safetensors file",
            map.len()
        )),
        Some(length) if length > MAX_HEADER => Err(format!(
            "header of {length} bytes, at most {MAX_HEADER} are read"
        )),
        Some(_) => Ok(()),
    }
}

fn shards(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let invalid = |reason: String| ModelError::Invalid {
        path: index.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(index).map_err(|source| ModelError::Io {
        path: index.to_owned(),
        source,
    })?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| invalid(format!("not JSON: {error}")))?;
    let map = value
        .get("weight_map")
        .and_then(|map| map.as_object())
        .ok_or_else(|| invalid("`weight_map` is missing".into()))?;
    let mut names = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().unwrap_or_default();
        let plain = !name.is_empty() && Path::new(name).file_name() == Some(name.as_ref());
        if !plain || !name.ends_with(".safetensors") {
            return Err(invalid(format!(
                "`{name}` is not a safetensors file of this folder"
            )));
        }
        names.insert(name.to_owned());
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

impl TensorSource for TensorFiles {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let invalid = |reason: String| ModelError::Tensor {
            name: name.to_owned(),
            reason,
        };
        let (values, found) = self
            .with_view(name, |view| (to_f32(&view), view.shape().to_vec()))
            .map(|(values, found)| values.map(|values| (values, found)))?
            .map_err(|dtype| invalid(format!("has type {dtype:?}, expected F32, F16 or BF16")))?;
        if found != shape {
            return Err(invalid(format!("has shape {found:?}, expected {shape:?}")));
        }
        self.taken.insert(name.to_owned());
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn has(&self, name: &str) -> bool {
        self.place.contains_key(name)
    }
}

fn to_f32(view: &TensorView<'_>) -> Result<Vec<f32>, Dtype> {
    let data = view.data();
    let halves = || {
        data.as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| u16::from_le_bytes(*bytes))
    };
    match view.dtype() {
        Dtype::F32 => Ok(data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()),
        Dtype::F16 => Ok(halves().map(|bits| f16::from_bits(bits).to_f32()).collect()),
        Dtype::BF16 => Ok(halves()
            .map(|bits| bf16::from_bits(bits).to_f32())
            .collect()),
        other => Err(other),
    }
}

/// Writes tensors to one safetensors file, whole or not at all: a temporary file beside it is
/// flushed to disk and renamed.
pub fn save_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    dtype: DType,
) -> Result<(), ModelError> {
    let io = |source| ModelError::Io {
        path: path.to_owned(),
        source,
    };
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let flat = tensor.flatten_all()?.to_dtype(dtype)?;
        let (bytes, kind) = match dtype {
            DType::BF16 => {
                let values = flat.to_vec1::<bf16>()?;
                (
                    values
                        .iter()
                        .flat_map(|x| x.to_bits().to_le_bytes())
                        .collect(),
                    Dtype::BF16,
                )
            }
            _ => {
                let values = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                (
                    values
                        .iter()
                        .flat_map(|x| x.to_le_bytes())
                        .collect::<Vec<u8>>(),
                    Dtype::F32,
                )
            }
        };
        stored.push((name.clone(), bytes, kind, tensor.dims().to_vec()));
    }
    let views: Result<Vec<(String, TensorView<'_>)>, _> = stored
        .iter()
        .map(|(name, bytes, kind, shape)| {
            TensorView::new(*kind, shape.clone(), bytes).map(|view| (name.clone(), view))
        })
        .collect();
    let invalid = |error: safetensors::SafeTensorError| ModelError::Invalid {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views.map_err(invalid)?, Some(metadata)).map_err(invalid)?;
    write_atomically(path, &bytes).map_err(io)
}

/// Replaces a file by `bytes` so that a crash leaves the old one or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

//! Where a model's tensors come from: mapped safetensors files, or trainable variables.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::ModelError;
use super::config::DecoderConfig;
use crate::kernel::matmul::Packing;
use crate::kernel::with_elements;
use crate::mapped::MappedFile;

/// Hands out tensors by name, as f32 on the CPU.
pub trait TensorSource {
    /// The tensor of that name and shape.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError>;

    /// True if there is a tensor of that name.
    fn has(&self, name: &str) -> bool;

    /// Some rows of the matrix of that name and shape, in place of what `to` held. Such reading
    /// leaves no copy of the whole in memory.
    fn rows(
        &mut self,
        (name, shape): (&str, [usize; 2]),
        rows: Range<usize>,
        to: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let rows = self
            .tensor(name, &shape)?
            .narrow(0, rows.start, rows.len())?;
        with_elements(&rows, |numbers| {
            to.clear();
            to.extend_from_slice(numbers);
        })?;
        Ok(())
    }

    /// How a matrix is best packed, if the way it is stored says so.
    fn packing(&self, _name: &str) -> Option<Packing> {
        None
    }
}

/// The safetensors files of one folder, mapped into memory.
pub struct TensorFiles {
    maps: Vec<MappedFile>,
    places: BTreeMap<String, Place>,
    taken: BTreeSet<String>,
}

/// Where a tensor lies, as its file's header says.
struct Place {
    map: usize,
    bytes: Range<usize>,
    dtype: Dtype,
    shape: Vec<usize>,
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
        let mut found = Self {
            maps: Vec::with_capacity(paths.len()),
            places: BTreeMap::new(),
            taken: BTreeSet::new(),
        };
        for path in paths {
            found.add(&path)?;
        }
        Ok(found)
    }

    /// Maps one more file and reads its header, once for all its tensors.
    fn add(&mut self, path: &Path) -> Result<(), ModelError> {
        let io = |source| ModelError::Io {
            path: path.to_owned(),
            source,
        };
        let map = MappedFile::open(path).map_err(io)?;
        check_start(path, &map)?;
        let invalid = |reason: String| ModelError::Invalid {
            path: path.to_owned(),
            reason,
        };
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
            invalid(format!(
                "not a whole safetensors file ({error}); download it again"
            ))
        })?;
        let data = size_of::<u64>() + header;
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let place = Place {
                map: self.maps.len(),
                bytes: data + from..data + to,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            if self.places.insert(name.clone(), place).is_some() {
                return Err(invalid(format!("tensor `{name}` is in two files")));
            }
        }
        self.maps.push(map);
        Ok(())
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.places.get(name)?.shape.clone())
    }

    /// Names of tensors that nobody has asked for.
    pub fn untouched(&self) -> impl Iterator<Item = &str> {
        self.names().filter(|name| !self.taken.contains(*name))
    }

    /// Refuses tensors that nobody has asked for while a decoder of this shape was loaded.
    pub(super) fn check_strays(&self, config: &DecoderConfig) -> Result<(), ModelError> {
        let tied_head = |name: &&str| config.tied && *name == "lm_head.weight";
        let stray = self
            .untouched()
            .find(|name| !name.ends_with("rotary_emb.inv_freq") && !tied_head(name));
        match stray {
            None => Ok(()),
            Some(name) => Err(ModelError::Tensor {
                name: name.to_owned(),
                reason: format!(
                    "is no part of a {} decoder as config.json describes it",
                    config.family.model_type()
                ),
            }),
        }
    }

    /// Bytes of all tensors, and those of them that are stored as bf16.
    pub(super) fn stored_bytes(&self) -> (usize, usize) {
        self.places.values().fold((0, 0), |(all, bf16), place| {
            let is_bf16 = place.dtype == Dtype::BF16;
            let bytes = place.bytes.len();
            (all + bytes, bf16 + if is_bf16 { bytes } else { 0 })
        })
    }
}

/// Refuses files that are something else, and headers that are too long, before anything is
/// allocated for them.
fn check_start(path: &Path, map: &[u8]) -> Result<(), ModelError> {
    let invalid = |reason: String| ModelError::Invalid {
        path: path.to_owned(),
        reason,
    };
    let Some(start) = map.first_chunk::<8>() else {
        let count = map.len();
        return Err(invalid(format!(
            "{count} bytes are too few for a safetensors file; download it again"
        )));
    };
    if map.starts_with(b"version https://git-lfs") {
        let reason = "it is only a pointer of Git LFS; fetch the file itself with `git lfs pull`";
        return Err(invalid(reason.to_owned()));
    }
    let length = u64::from_le_bytes(*start);
    if length <= MAX_HEADER {
        return Ok(());
    }
    // a zip archive as torch writes it, or a bare pickle of protocol 2 to 5
    if start.starts_with(b"PK\x03\x04") || matches!(start, [0x80, 2..=5, ..]) {
        return Err(ModelError::Pickle {
            path: path.to_owned(),
        });
    }
    Err(invalid(format!(
        "header of {length} bytes, at most {MAX_HEADER} are read; it is no safetensors file, or a \
         damaged one"
    )))
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

impl TensorFiles {
    /// Where a tensor of that name and shape lies; it counts as taken.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<&Place, ModelError> {
        let invalid = |reason: String| ModelError::Tensor {
            name: name.to_owned(),
            reason,
        };
        let place = self
            .places
            .get(name)
            .ok_or_else(|| invalid("is missing".into()))?;
        if place.shape != shape {
            let found = &place.shape;
            return Err(invalid(format!("has shape {found:?}, expected {shape:?}")));
        }
        if !self.taken.contains(name) {
            self.taken.insert(name.to_owned());
        }
        Ok(place)
    }
}

/// The numbers at some bytes of a map, in place of what `to` holds, after which the system may have their pages back.
fn read(
    map: &MappedFile,
    bytes: Range<usize>,
    (name, dtype): (&str, Dtype),
    to: &mut Vec<f32>,
) -> Result<(), ModelError> {
    let stored = &map[bytes];
    to_f32(stored, dtype, to).map_err(|dtype| ModelError::Tensor {
        name: name.to_owned(),
        reason: format!("has type {dtype:?}, expected F32, F16 or BF16"),
    })?;
    map.let_go(stored);
    Ok(())
}

impl TensorSource for TensorFiles {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let Place {
            map, bytes, dtype, ..
        } = self.take(name, shape)?;
        let (map, bytes, dtype) = (*map, bytes.clone(), *dtype);
        let mut values = Vec::new();
        read(&self.maps[map], bytes, (name, dtype), &mut values)?;
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn rows(
        &mut self,
        (name, shape): (&str, [usize; 2]),
        rows: Range<usize>,
        to: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let Place {
            map, bytes, dtype, ..
        } = self.take(name, &shape)?;
        let (map, dtype, row) = (*map, *dtype, bytes.len() / shape[0]);
        let bytes = bytes.start + rows.start * row..bytes.start + rows.end * row;
        read(&self.maps[map], bytes, (name, dtype), to)
    }
}

/// Stored numbers as f32 in place of what `to` holds, or the type that is none of ours.
fn to_f32(data: &[u8], dtype: Dtype, to: &mut Vec<f32>) -> Result<(), Dtype> {
    to.clear();
    let (halves, whole) = (data.as_chunks::<2>().0, data.as_chunks::<4>().0);
    match dtype {
        Dtype::F32 => to.extend(whole.iter().map(|bytes| f32::from_le_bytes(*bytes))),
        Dtype::F16 => to.extend(halves.iter().map(|it| f16::from_le_bytes(*it).to_f32())),
        Dtype::BF16 => to.extend(halves.iter().map(|it| bf16::from_le_bytes(*it).to_f32())),
        other => return Err(other),
    }
    Ok(())
}

//! How tensors are written: whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use candle_core::{DType, Tensor};
use half::bf16;
use safetensors::{Dtype, tensor::TensorView};

use super::ModelError;

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

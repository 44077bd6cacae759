//! Reaching the f32 numbers of a CPU tensor from inside a custom operation.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The contiguous f32 elements behind `layout`.
pub(super) fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("expected an f32 tensor, got {:?}", storage_dtype(storage))
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!(
            "expected a contiguous tensor, got strides {:?}",
            layout.stride()
        ),
    }
}

fn storage_dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// Runs `read` on the f32 elements of `tensor`, made contiguous first where it is not.
pub fn with_elements<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(read(elements(cpu, layout)?)),
        _ => bail!("expected a tensor on the CPU"),
    }
}

/// True if a gradient may be asked of `tensor`.
pub(super) fn wants_gradient(tensor: &Tensor) -> bool {
    tensor.is_variable() || tensor.track_op()
}

//! Memory of a device, and memory of the host that a device reaches by itself.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaStream, DeviceRepr, PinnedHostSlice, ValidAsZeroBits, result};

use super::error::is_out_of_memory;
use super::{CudaError, Gpu};

/// Numbers that a device can hold: any bits are one.
pub trait Numbers: DeviceRepr + ValidAsZeroBits + Copy {}

impl<T: DeviceRepr + ValidAsZeroBits + Copy> Numbers for T {}

/// Numbers in a device's memory. Kernels write to it through a shared reference: all that happens on a
/// device happens in the order of its one stream.
///
/// Belongs to its context, with which it goes after a fault. That is why it is not of a memory pool, as
/// cudarc's slices are: those are the device's, whatever becomes of a context.
pub struct Buffer<T> {
    address: u64,
    len: usize,
    stream: Arc<CudaStream>,
    numbers: PhantomData<T>,
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let bound = self.stream.context().bind_to_thread();
        // What was launched may still reach it.
        if bound.is_ok() && self.stream.synchronize().is_ok() {
            // SAFETY: allocated in `zeros`, by this context, and given back once. Where it fails, the
            // context is lost and takes its memory along.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

impl<T: Numbers> Buffer<T> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the `index`-th number lies, as kernels take it. There are so many numbers.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn at(&self, index: usize) -> u64 {
        assert!(index <= self.len, "{index} of {}", self.len);
        self.address + (index * size_of::<T>()) as u64
    }
}

impl Gpu {
    /// Takes the device over for the calling thread, which may be another than the last one.
    pub(super) fn bind(&self) -> Result<(), CudaError> {
        let bound = self.context.bind_to_thread();
        bound.map_err(CudaError::driver("take the device over"))
    }

    /// A buffer of zeros; `what` it is for is told where there is no room.
    pub fn zeros<T: Numbers>(
        &self,
        what: &'static str,
        len: usize,
    ) -> Result<Buffer<T>, CudaError> {
        self.bind()?;
        // The driver has no empty allocations.
        let bytes = len.max(1).saturating_mul(size_of::<T>());
        // SAFETY: filled below, before anything reads it.
        let address = unsafe { result::malloc_sync(bytes) }.map_err(|error| {
            if is_out_of_memory(error) {
                CudaError::OutOfMemory { what, bytes }
            } else {
                CudaError::driver("allocate memory")(error)
            }
        })?;
        let buffer = Buffer {
            address,
            len,
            stream: Arc::clone(&self.stream),
            numbers: PhantomData,
        };
        // SAFETY: so many bytes were allocated, and zeros are numbers of any kind.
        let filled = unsafe { result::memset_d8_async(address, 0, bytes, self.stream.cu_stream()) };
        filled.map_err(CudaError::driver("fill memory"))?;
        Ok(buffer)
    }

    /// A buffer of these numbers.
    pub fn upload<T: Numbers>(
        &self,
        what: &'static str,
        numbers: &[T],
    ) -> Result<Buffer<T>, CudaError> {
        let mut buffer = self.zeros(what, numbers.len())?;
        self.write(&mut buffer, 0, numbers)?;
        Ok(buffer)
    }

    /// Writes numbers from the given place on, after all that was launched before.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write<T: Numbers>(
        &self,
        buffer: &mut Buffer<T>,
        first: usize,
        numbers: &[T],
    ) -> Result<(), CudaError> {
        assert!(
            first <= buffer.len && numbers.len() <= buffer.len - first,
            "{} numbers from {first} on of {}",
            numbers.len(),
            buffer.len
        );
        if numbers.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: they fit, by the check. The host's numbers are not in pinned memory, so the driver
        // has copied them when it returns.
        let written = unsafe {
            result::memcpy_htod_async(buffer.at(first), numbers, self.stream.cu_stream())
        };
        written.map_err(CudaError::driver("copy to the device"))
    }

    /// Copies some numbers to the host, and waits for it and for all that was launched before.
    ///
    /// # Panics
    /// If there are no such numbers.
    pub fn read<T: Numbers + Default>(
        &self,
        buffer: &Buffer<T>,
        range: Range<usize>,
    ) -> Result<Vec<T>, CudaError> {
        let mut numbers = vec![T::default(); range.len()];
        self.copy(buffer, range.start, &mut numbers)?;
        Ok(numbers)
    }

    fn copy<T: Numbers>(
        &self,
        buffer: &Buffer<T>,
        first: usize,
        to: &mut [T],
    ) -> Result<(), CudaError> {
        assert!(
            first <= buffer.len && to.len() <= buffer.len - first,
            "{} numbers from {first} on of {}",
            to.len(),
            buffer.len
        );
        if !to.is_empty() {
            self.bind()?;
            // SAFETY: there are so many, by the check; `to` is not touched before the wait below.
            let copied =
                unsafe { result::memcpy_dtoh_async(to, buffer.at(first), self.stream.cu_stream()) };
            copied.map_err(CudaError::driver("copy from the device"))?;
        }
        self.wait()
    }

    /// Memory of the host for so many numbers, which a device writes to at its full speed.
    pub fn pinned<T: Numbers>(&self, len: usize) -> Result<Pinned<T>, CudaError> {
        // SAFETY: only `fetch` reads from it, and only what it has written there. Without the flag
        // for write-combined memory, which is slow to read.
        let slice = unsafe { self.context.alloc_pinned_with_flags::<T>(len.max(1), 0) };
        let doing = "allocate memory of the host";
        Ok(Pinned(slice.map_err(CudaError::driver(doing))?))
    }

    /// The first numbers of a buffer, once all that was launched before has run.
    ///
    /// # Panics
    /// If there are not so many, or no room for them.
    pub fn fetch<'a, T: Numbers>(
        &self,
        buffer: &Buffer<T>,
        len: usize,
        room: &'a mut Pinned<T>,
    ) -> Result<&'a [T], CudaError> {
        let to = room.0.as_mut_slice();
        let to = &mut to.map_err(CudaError::driver("wait for memory of the host"))?[..len];
        self.copy(buffer, 0, to)?;
        Ok(to)
    }
}

/// Memory of the host that stays where it is.
pub struct Pinned<T>(PinnedHostSlice<T>);

impl<T: Numbers> Pinned<T> {
    /// How many numbers fit.
    pub fn capacity(&self) -> usize {
        self.0.len()
    }
}

//! Memory of a device, and memory of the host that a device reaches by itself.

use std::ops::Range;

use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, PinnedHostSlice, ValidAsZeroBits};

use super::error::is_out_of_memory;
use super::{CudaError, Gpu};

/// Numbers that a device can hold: any bits are one.
pub trait Numbers: DeviceRepr + ValidAsZeroBits + Copy {}

impl<T: DeviceRepr + ValidAsZeroBits + Copy> Numbers for T {}

/// Numbers in a device's memory. Kernels write to it through a shared reference: all that happens on a
/// device happens in the order of its one stream.
pub struct Buffer<T> {
    slice: CudaSlice<T>,
    address: u64,
}

impl<T: Numbers> Buffer<T> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.slice.is_empty()
    }

    /// Where the `index`-th number lies, as kernels take it. There are so many numbers.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn at(&self, index: usize) -> u64 {
        assert!(index <= self.len(), "{index} of {}", self.len());
        self.address + (index * size_of::<T>()) as u64
    }
}

impl Gpu {
    /// A buffer of zeros; `what` it is for is told where there is no room.
    pub fn zeros<T: Numbers>(
        &self,
        what: &'static str,
        len: usize,
    ) -> Result<Buffer<T>, CudaError> {
        // The driver has no empty allocations.
        let slice = self.stream.alloc_zeros::<T>(len.max(1)).map_err(|error| {
            if is_out_of_memory(error) {
                let bytes = len * size_of::<T>();
                CudaError::OutOfMemory { what, bytes }
            } else {
                CudaError::driver("allocate memory")(error)
            }
        })?;
        let address = slice.device_ptr(&self.stream).0;
        Ok(Buffer { slice, address })
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

    /// Writes numbers from the given place on.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write<T: Numbers>(
        &self,
        buffer: &mut Buffer<T>,
        first: usize,
        numbers: &[T],
    ) -> Result<(), CudaError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut place = buffer.slice.slice_mut(first..first + numbers.len());
        self.stream
            .memcpy_htod(numbers, &mut place)
            .map_err(CudaError::driver("copy to the device"))
    }

    /// Reads some numbers, once all that was launched before has run.
    pub fn read<T: Numbers>(
        &self,
        buffer: &Buffer<T>,
        range: Range<usize>,
    ) -> Result<Vec<T>, CudaError> {
        let place = buffer.slice.slice(range);
        let numbers = self.stream.clone_dtoh(&place);
        self.wait()?;
        numbers.map_err(CudaError::driver("copy from the device"))
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
        assert!(
            len <= room.0.len(),
            "{len} numbers, room for {}",
            room.0.len()
        );
        let doing = CudaError::driver("copy from the device");
        let to = &mut room.0.as_mut_slice().map_err(&doing)?[..len];
        if len > 0 {
            let from = buffer.slice.slice(..len);
            self.stream.memcpy_dtoh(&from, to).map_err(&doing)?;
        }
        self.wait()?;
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

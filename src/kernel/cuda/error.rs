//! What can be wrong with a device, or go wrong on it.

use cudarc::driver::{DriverError, sys};

/// A device that cannot be used, or a call to it that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// No driver on this machine.
    #[error(
        "there is no CUDA driver here: libcuda.so.1 was not found; install NVIDIA's driver (580 or \
         newer), or in a container start it with the NVIDIA runtime (`--gpus all`)"
    )]
    NoDriver,
    /// The driver does not start.
    #[error("the CUDA driver does not start ({name}); check that `nvidia-smi` works here")]
    Init {
        /// The driver's name for the reason.
        name: String,
    },
    /// No device of that number.
    #[error("there is no CUDA device {ordinal}; the driver tells of {count}")]
    NoDevice {
        /// The number that was asked for.
        ordinal: usize,
        /// Devices there are.
        count: usize,
    },
    /// The device is older than the kernels.
    #[error(
        "{device} has compute capability {major}.{minor}; 8.0 or newer is needed (Ampere and later)"
    )]
    TooOld {
        /// Its name.
        device: String,
        /// Of its compute capability.
        major: i32,
        /// Of its compute capability.
        minor: i32,
    },
    /// Too little memory.
    #[error("the device has no room for {bytes} more bytes ({what})")]
    OutOfMemory {
        /// What was to be kept.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// Any other failure of the driver.
    #[error("the CUDA driver failed to {doing}: {name}")]
    Driver {
        /// What it was asked to do.
        doing: &'static str,
        /// Its name for the reason.
        name: String,
    },
}

impl CudaError {
    /// Turns a driver's error into ours.
    pub(super) fn driver(doing: &'static str) -> impl Fn(DriverError) -> Self {
        move |error| Self::Driver {
            doing,
            name: name(error),
        }
    }

    /// Whether the device can go on as if nothing had happened. After other failures its context, and
    /// all that is in it, is lost.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. })
    }
}

/// The driver's name for an error, and what it says of it.
pub(super) fn name(error: DriverError) -> String {
    let text = |text: Result<&std::ffi::CStr, _>| {
        text.map_or_else(|_| String::new(), |it| it.to_string_lossy().into_owned())
    };
    match (text(error.error_name()), text(error.error_string())) {
        (name, said) if said.is_empty() => name,
        (name, said) => format!("{name}, {said}"),
    }
}

/// Whether an error says that memory ran out.
pub(super) fn is_out_of_memory(error: DriverError) -> bool {
    error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY
}

//! What computes a served decoder, as an operator asks for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The processor, or a GPU by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
    /// The first CUDA device where this program is built for one and there is one, else the processor.
    Auto,
}

/// A name that is none of [`Device`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device; expected `cpu`, `cuda`, `cuda:N` with N from 0, or `auto`")]
pub struct UnknownDevice(String);

/// A CUDA device is asked of a program that is built without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this program was built without CUDA, so `--device cuda` cannot be served; use the CUDA image or \
     build with `cargo build --release --features cuda`, or leave --device out"
)]
pub struct NotBuilt;

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownDevice(name.to_owned());
        match name {
            "cpu" => Ok(Self::Cpu),
            "auto" => Ok(Self::Auto),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let ordinal = name.strip_prefix("cuda:").ok_or_else(unknown)?;
                Ok(Self::Cuda(ordinal.parse().map_err(|_| unknown())?))
            }
        }
    }
}

impl TryFrom<String> for Device {
    type Error = UnknownDevice;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_others_refused_with_those_there_are() {
        for device in [Device::Cpu, Device::Auto, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda:0".parse(), Ok(Device::Cuda(0)));
        for name in ["gpu", "cuda:", "cuda:-1", "cuda1", "CPU", ""] {
            let error = name.parse::<Device>().unwrap_err().to_string();
            assert!(
                error.contains("`cuda:N`") && error.contains(name),
                "{error}"
            );
        }
    }
}

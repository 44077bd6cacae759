//! The CUDA backend on an emulated device: the same program, driver calls and kernels, the latter
//! compiled as C++ (tests/cuda/emulator). Where a driver is installed, the same tests run on its device.

mod device;
mod engine;
mod faults;
mod parity;
mod products;
mod random;
mod service;
mod shapes;

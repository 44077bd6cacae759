//! Arithmetic on a CUDA device, without gradients: what a decoder's serving pass needs.
//!
//! Speaks to the driver alone (libcuda, found when it is first asked for), so a binary with it starts
//! on machines without a device. The kernels are in `device/`; each function here launches one of them
//! on the device's one stream, in order, and returns before it has run.
//!
//! Numbers that go into products are bf16, all sums f32. A row's bits depend on the row alone, as on the
//! CPU, whatever the device; they are other bits than the CPU's.

mod attention;
mod buffer;
mod error;
mod gpu;
mod graph;
mod low_rank;
mod product;
mod rows;

pub use attention::{Attention, Cache, Placement, Rotation, Tile, Turn};
pub use buffer::{Buffer, Numbers, Pinned};
pub use error::CudaError;
pub use gpu::{Gpu, device_count};
pub use graph::Graph;
pub use low_rank::{AdapterRows, LowRankEntry};
pub use product::{Matrix, Products, padded};
pub use rows::{Branch, DeviceNorm, PickedRows};

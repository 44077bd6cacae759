//! Low-rank changes of products (arXiv 2106.09685), each row through its own adapter.

use cudarc::driver::{DeviceRepr, ValidAsZeroBits};

use super::gpu::{launch, shape};
use super::product::int;
use super::{Buffer, CudaError, Gpu, padded};

/// One adapter's change of one linear layer, as the kernels read it; all zeros changes nothing.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct LowRankEntry {
    /// Address of (rank, inputs) f32.
    pub down: u64,
    /// Address of (rank, outputs) f32.
    pub up: u64,
    /// Rank; 0 changes nothing.
    pub rank: u32,
    /// `alpha / rank`.
    pub scale: f32,
}

// SAFETY: plain numbers in C's layout, which is the kernels'.
unsafe impl DeviceRepr for LowRankEntry {}
// SAFETY: all of its fields may be zero.
unsafe impl ValidAsZeroBits for LowRankEntry {}

/// Through which adapter each row goes, and room for what is between the halves.
#[derive(Clone, Copy)]
pub struct AdapterRows<'a> {
    /// For each row the address of its adapter's entries, one for each layer and slot; 0 without one.
    pub entries: &'a Buffer<u64>,
    /// Rows of the batch.
    pub rows: usize,
    /// (rows, slots · most_rank) f32, for as many slots as are changed at once.
    pub low: &'a Buffer<f32>,
    /// At least the rank of every adapter.
    pub most_rank: usize,
}

/// Where the outputs of neighbouring slots begin, and where the last one's end.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Columns {
    starts: [i32; 4],
}

// SAFETY: plain numbers in C's layout, which is the kernels'.
unsafe impl DeviceRepr for Columns {}

impl Gpu {
    /// `out += scale · (x · downᵀ) · up` for the changes from place `entry` on of each row's adapter, as
    /// many as there are `widths`, whose outputs lie side by side in `out` (rows, sum of widths). `x` is
    /// (rows, stride) bf16.
    ///
    /// # Panics
    /// If a buffer is too short, or there are more than three changes.
    pub fn change(
        &self,
        adapters: AdapterRows<'_>,
        entry: usize,
        (x, inputs): (&Buffer<u16>, usize),
        (out, widths): (&Buffer<f32>, &[usize]),
    ) -> Result<(), CudaError> {
        let AdapterRows {
            entries,
            rows,
            low,
            most_rank,
        } = adapters;
        let (slots, stride) = (widths.len(), padded(inputs));
        let low_stride = slots * most_rank;
        assert!(slots <= 3, "{slots} changes at once");
        assert!(
            entries.len() >= rows,
            "{} adapters for {rows} rows",
            entries.len()
        );
        assert!(
            x.len() >= rows * stride,
            "{} inputs for {rows} rows",
            x.len()
        );
        assert!(
            low.len() >= rows * low_stride,
            "room for {} of {rows} rows",
            low.len()
        );
        let mut columns = Columns { starts: [0; 4] };
        let mut width = 0;
        for (index, outs) in widths.iter().enumerate() {
            width += outs;
            columns.starts[index + 1] = int(width);
        }
        assert!(
            out.len() >= rows * width,
            "{} outputs for {rows} rows",
            out.len()
        );
        let (table, entry) = (entries.at(0), int(entry));
        let (rank, low_stride) = (int(most_rank), int(low_stride));
        let grid = shape([rows, slots, 1], 256, 0);
        // SAFETY: the buffers hold so many rows, by the checks; entries and what they point to are kept
        // by whoever uploaded them until all that was launched has run.
        unsafe {
            launch!(
                self,
                self.kernel("low_rank_down"),
                grid,
                table,
                entry,
                x.at(0),
                low.at(0),
                int(inputs),
                int(stride),
                rank,
                low_stride
            )
        }?;
        let widest = widths.iter().copied().max().unwrap_or(0);
        let grid = shape([widest.div_ceil(256), rows, slots], 256, 0);
        // SAFETY: as above.
        unsafe {
            launch!(
                self,
                self.kernel("low_rank_up"),
                grid,
                table,
                entry,
                low.at(0),
                out.at(0),
                columns,
                rank,
                low_stride,
                int(width)
            )
        }
    }
}

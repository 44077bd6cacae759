//! Products of rows with a matrix, and which kernel makes them.

use super::gpu::{launch, shape};
use super::{Buffer, CudaError, Gpu};

/// Inputs are padded to a multiple of this; `STEP` in numbers.cuh.
const STEP: usize = 32;
/// Parts that sums are made of; `SLICES` in product.cu.
const SLICES: usize = 8;
/// Outputs and rows of a block of `product_wide`.
const WIDE: (usize, usize) = (128, 64);
/// Rows up to which the matrix is read by `product_8` or `product_16`. With more, every warp's reading of
/// all rows would cost as much as the matrix.
const NARROW: usize = 16;

/// The numbers of a row of inputs, with its padding.
#[must_use]
pub fn padded(inputs: usize) -> usize {
    inputs.next_multiple_of(STEP)
}

/// A linear layer: `x · Wᵀ + bias`.
pub struct Matrix {
    /// (outs, stride) bf16, padded with zeros.
    pub numbers: Buffer<u16>,
    /// (outs,)
    pub bias: Option<Buffer<f32>>,
    /// Outputs.
    pub outs: usize,
    /// Inputs, without padding.
    pub inputs: usize,
}

impl Matrix {
    /// The numbers of a row.
    pub fn stride(&self) -> usize {
        padded(self.inputs)
    }
}

/// Makes products; keeps what they need on the way.
pub struct Products {
    /// Of a product that several blocks make together, (SLICES, rows, outs).
    slices: Buffer<f32>,
}

impl Products {
    /// For products on this device.
    pub fn new(gpu: &Gpu) -> Result<Self, CudaError> {
        // A product whose blocks keep all multiprocessors busy is not cut.
        let most = gpu.multiprocessors() * WIDE.0 * WIDE.1 * SLICES;
        Ok(Self {
            slices: gpu.zeros("sums of products", most)?,
        })
    }

    /// `out[row] = x[row] · Wᵀ + bias`: `x` (rows, stride) bf16, `out` (rows, outs) f32.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn product(
        &self,
        gpu: &Gpu,
        matrix: &Matrix,
        (x, rows): (&Buffer<u16>, usize),
        out: &Buffer<f32>,
    ) -> Result<(), CudaError> {
        let (outs, stride) = (matrix.outs, matrix.stride());
        if rows == 0 {
            return Ok(());
        }
        assert!(
            x.len() >= rows * stride,
            "{} inputs for {rows} rows",
            x.len()
        );
        assert!(
            out.len() >= rows * outs,
            "{} outputs for {rows} rows",
            out.len()
        );
        assert!(
            matrix.numbers.len() >= outs * stride,
            "a matrix of {}",
            matrix.numbers.len()
        );
        let bias = matrix.bias.as_ref().map_or(0, |bias| {
            assert!(bias.len() >= outs, "{} biases for {outs}", bias.len());
            bias.at(0)
        });
        let (kernel, grid) = plan(rows, outs, gpu.multiprocessors());
        let is_cut = grid[2] > 1;
        let slices = if is_cut { self.slices.at(0) } else { 0 };
        let (x, w, out) = (x.at(0), matrix.numbers.at(0), out.at(0));
        let sum = shape([outs.div_ceil(256), rows, 1], 256, 0);
        let [rows, outs, stride] = [rows, outs, stride].map(int);
        // SAFETY: the buffers hold what the kernels reach, by the checks above: rows and outputs past
        // the last are neither read nor written. A product that is cut has fewer outputs than `slices`
        // has room for.
        unsafe {
            launch!(
                gpu,
                gpu.kernel(kernel),
                shape(grid, 256, 0),
                x,
                w,
                bias,
                out,
                slices,
                rows,
                outs,
                stride
            )
        }?;
        if is_cut {
            // SAFETY: as above.
            unsafe {
                launch!(
                    gpu,
                    gpu.kernel("product_sum"),
                    sum,
                    slices,
                    bias,
                    out,
                    rows,
                    outs,
                    stride
                )
            }?;
        }
        Ok(())
    }
}

/// The kernel for so many rows, at least one, and its grid, whose last side is the number of blocks that
/// make an output together: all parts of its sum, each for `product_sum` to add, or one.
fn plan(rows: usize, outs: usize, multiprocessors: usize) -> (&'static str, [usize; 3]) {
    match rows {
        0..=8 => ("product_8", [outs.div_ceil(16), 1, 1]),
        9..=NARROW => ("product_16", [outs.div_ceil(16), 1, 1]),
        _ => {
            let blocks = [rows.div_ceil(WIDE.1), outs.div_ceil(WIDE.0)];
            let is_cut = blocks[0] * blocks[1] < multiprocessors;
            let parts = if is_cut { SLICES } else { 1 };
            ("product_wide", [blocks[0], blocks[1], parts])
        }
    }
}

/// A size as kernels take it; none is larger, as buffers of that many rows would not fit anywhere.
pub(super) fn int(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

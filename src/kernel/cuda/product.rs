//! Products of rows with a matrix, and which kernel makes them.

use super::gpu::{launch, shape};
use super::{Buffer, CudaError, Gpu};

/// Inputs are padded to a multiple of this; `STEP` in numbers.cuh.
const STEP: usize = 32;
/// Parts that sums are made of; `SLICES` in product.cu.
const SLICES: usize = 8;
/// Outputs and rows of a block of `product_wide`.
const WIDE: (usize, usize) = (128, 64);
/// Rows up to which the matrix is read by `product_8`, `_16` or `_32`.
const NARROW: usize = 32;

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
        let (x, w, to) = (x.at(0), matrix.numbers.at(0), out.at(0));
        let [rows_i, outs_i, stride_i] = [rows, outs, stride].map(int);
        if rows <= NARROW {
            let (kernel, tile) = match rows {
                0..=8 => ("product_8", 8),
                9..=16 => ("product_16", 16),
                _ => ("product_32", 32),
            };
            let grid = shape([outs.div_ceil(16), rows.div_ceil(tile), 1], 256, 0);
            // SAFETY: the buffers hold what the kernel reaches, by the checks above: rows and outputs
            // past the last are neither read nor written.
            return unsafe {
                launch!(
                    gpu,
                    gpu.kernel(kernel),
                    grid,
                    x,
                    w,
                    bias,
                    to,
                    rows_i,
                    outs_i,
                    stride_i,
                    outs_i
                )
            };
        }
        let blocks = [outs.div_ceil(WIDE.0), rows.div_ceil(WIDE.1)];
        let is_cut = blocks[0] * blocks[1] < gpu.multiprocessors();
        let slices = if is_cut { self.slices.at(0) } else { 0 };
        let grid = shape(
            [blocks[0], blocks[1], if is_cut { SLICES } else { 1 }],
            256,
            0,
        );
        // SAFETY: as above; a product that is cut has fewer outputs than `slices` has room for.
        unsafe {
            launch!(
                gpu,
                gpu.kernel("product_wide"),
                grid,
                x,
                w,
                bias,
                to,
                slices,
                rows_i,
                outs_i,
                stride_i,
                outs_i
            )
        }?;
        if is_cut {
            let grid = shape([outs.div_ceil(256), rows, 1], 256, 0);
            // SAFETY: as above.
            unsafe {
                launch!(
                    gpu,
                    gpu.kernel("product_sum"),
                    grid,
                    slices,
                    bias,
                    to,
                    rows_i,
                    outs_i,
                    stride_i,
                    outs_i
                )
            }?;
        }
        Ok(())
    }
}

/// A size as kernels take it; none is larger, as buffers of that many rows would not fit anywhere.
pub(super) fn int(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

//! Whole rows: embeddings, the residual stream with its norms, gates, and the bound of logits.

use super::super::gated::Activation;
use super::gpu::{launch, shape};
use super::product::int;
use super::{Buffer, CudaError, Gpu, Matrix, padded};

/// Threads of a block; `ROW_THREADS` in rows.cu.
const THREADS: u32 = 256;

/// A root-mean-square norm (arXiv 1910.07467).
pub struct DeviceNorm {
    /// (width,)
    pub weight: Buffer<f32>,
    /// Added to the mean square.
    pub eps: f32,
    /// Added to the weight.
    pub offset: f32,
}

/// What a branch of a layer adds to the residual stream.
#[derive(Clone, Copy)]
pub struct Branch<'a> {
    /// (rows, width) f32
    pub out: &'a Buffer<f32>,
    /// Taken before it is added.
    pub norm: Option<&'a DeviceNorm>,
}

/// Which rows of the residual stream a norm is taken of: their number, and where their indices lie on the
/// device, unless it is all of them.
#[derive(Clone, Copy)]
pub struct PickedRows {
    /// How many.
    pub count: usize,
    /// Address of as many u32, each a row; 0 for all rows in order.
    pub indices: u64,
}

impl Gpu {
    /// `x[row] = factor · table[token]` and `normed = norm(x)`: `x` (rows, width) f32, `normed` (rows,
    /// stride) bf16. `tokens` is the address of as many u32 as there are rows, each below the table's
    /// outputs.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub(crate) fn embed(
        &self,
        (tokens, rows): (u64, usize),
        (table, factor): (&Matrix, f32),
        x: &Buffer<f32>,
        (norm, normed): (&DeviceNorm, &Buffer<u16>),
    ) -> Result<(), CudaError> {
        let (width, stride) = (table.inputs, table.stride());
        check_rows(rows, (x, width), (norm, normed));
        let (table, x, weight, normed) = (
            table.numbers.at(0),
            x.at(0),
            norm.weight.at(0),
            normed.at(0),
        );
        let grid = shape([rows, 1, 1], THREADS, 0);
        // SAFETY: the buffers hold so many rows, by the check; the caller vouches for the tokens.
        unsafe {
            launch!(
                self,
                self.kernel("embed"),
                grid,
                tokens,
                table,
                factor,
                x,
                weight,
                norm.eps,
                norm.offset,
                normed,
                int(width),
                int(stride)
            )
        }
    }

    /// `x += branch` for the picked rows, and `normed[i] = norm(x[picked[i]])`; no row is picked twice.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub(crate) fn join(
        &self,
        (x, width): (&Buffer<f32>, usize),
        picked: PickedRows,
        branch: Branch<'_>,
        (norm, normed): (&DeviceNorm, &Buffer<u16>),
    ) -> Result<(), CudaError> {
        if picked.count == 0 {
            return Ok(());
        }
        check_rows(picked.count, (x, width), (norm, normed));
        assert!(
            branch.out.len() >= picked.count * width,
            "a branch of {}",
            branch.out.len()
        );
        let after = branch.norm.map_or(0, |norm| norm.weight.at(0));
        let (x, out, weight, to) = (x.at(0), branch.out.at(0), norm.weight.at(0), normed.at(0));
        let grid = shape([picked.count, 1, 1], THREADS, 0);
        // SAFETY: the buffers hold so many rows, by the check; the caller vouches for the indices. Both
        // norms of a model have one epsilon and offset.
        unsafe {
            launch!(
                self,
                self.kernel("join"),
                grid,
                x,
                out,
                picked.indices,
                after,
                weight,
                norm.eps,
                norm.offset,
                to,
                int(width),
                int(padded(width))
            )
        }
    }

    /// `out = activation(gate) · up`: `both` (rows, 2 · width) f32, the gates first, `out` (rows, stride)
    /// bf16.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn gate(
        &self,
        (both, rows): (&Buffer<f32>, usize),
        activation: Activation,
        (out, width): (&Buffer<u16>, usize),
    ) -> Result<(), CudaError> {
        let stride = padded(width);
        assert!(
            both.len() >= rows * 2 * width,
            "{} gates for {rows} rows",
            both.len()
        );
        assert!(
            out.len() >= rows * stride,
            "{} outputs for {rows} rows",
            out.len()
        );
        let kind: i32 = match activation {
            Activation::Silu => 0,
            Activation::GeluTanh => 1,
            Activation::Gelu => 2,
        };
        let grid = shape([width.div_ceil(256), rows, 1], 256, 0);
        // SAFETY: the buffers hold so many rows, by the checks.
        unsafe {
            launch!(
                self,
                self.kernel("gate"),
                grid,
                both.at(0),
                kind,
                out.at(0),
                int(width),
                int(stride)
            )
        }
    }

    /// Replaces the first `count` numbers by `bound · tanh(number / bound)`.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn cap(&self, numbers: &Buffer<f32>, count: usize, bound: f32) -> Result<(), CudaError> {
        assert!(numbers.len() >= count, "{count} of {}", numbers.len());
        let grid = shape([count.div_ceil(256), 1, 1], 256, 0);
        // SAFETY: there are so many numbers.
        unsafe { launch!(self, self.kernel("cap"), grid, numbers.at(0), bound, count) }
    }
}

/// Whether buffers hold rows of this width and their norms.
fn check_rows(
    rows: usize,
    (x, width): (&Buffer<f32>, usize),
    (norm, normed): (&DeviceNorm, &Buffer<u16>),
) {
    assert!(
        x.len() >= rows * width,
        "{} numbers for {rows} rows",
        x.len()
    );
    assert!(
        normed.len() >= rows * padded(width),
        "{} norms for {rows} rows",
        normed.len()
    );
    assert!(
        norm.weight.len() >= width,
        "{} weights for {width}",
        norm.weight.len()
    );
}

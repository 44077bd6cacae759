//! Frozen matrices over one input, each with a low-rank update of its own (arXiv 2106.09685).
//!
//! `y = x Wᵀ + b + scale (x Aᵀ) Bᵀ`. The outputs of the matrices lie side by side in one row, and so
//! do their low-rank products, so that one pass over `x` makes all of the latter. Gradients of the
//! input add up inside the products.

use std::sync::Arc;

use rayon::prelude::*;

use super::super::matmul::{
    Dims, Mode, Operand, PackedMatrix, Precision, Product, Target, gemm, gemm_into, sum_of_products,
};

/// A frozen matrix, (out, in), packed for both ways.
pub struct FrozenMatrix {
    /// For `x Wᵀ`.
    pub packed: Arc<PackedMatrix>,
    /// Its transpose, for `dy W`.
    pub back: Arc<PackedMatrix>,
    /// (out,)
    pub bias: Option<Arc<[f32]>>,
}

/// A matrix's low-rank update: its numbers are `A`, (rank, in), and `B`, (out, rank).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowRank {
    /// Rows of `A`, columns of `B`.
    pub rank: usize,
    /// Factor on the update.
    pub scale: f32,
}

/// Matrices over one input.
pub struct Projections {
    matrices: Vec<FrozenMatrix>,
    inputs: usize,
    outputs: usize,
}

/// The updates of all matrices: the numbers of every `A`, then those of every `B`.
#[derive(Clone, Copy)]
pub(super) struct Updates<'a> {
    pub(super) each: &'a [Option<LowRank>],
    pub(super) numbers: &'a [f32],
}

impl Updates<'_> {
    /// Columns of the low-rank products.
    pub(super) fn ranks(&self) -> usize {
        self.each.iter().flatten().map(|update| update.rank).sum()
    }
}

/// Where one matrix's share lies.
struct Part<'a> {
    matrix: &'a FrozenMatrix,
    /// Its first output.
    column: usize,
    update: Option<PartUpdate>,
}

struct PartUpdate {
    rank: usize,
    scale: f32,
    /// Its first column among the low-rank products.
    column: usize,
    /// Where `B` begins among the numbers.
    at: usize,
}

const F32: Mode = Mode {
    precision: Precision::F32,
    accumulate: false,
};

/// Columns from `first` on of a row-major matrix.
fn columns(data: &[f32], first: usize, width: usize) -> Operand<'_> {
    Operand::row_major(data.get(first..).unwrap_or_default(), width)
}

impl Projections {
    /// Of one matrix or more; their inputs are the same.
    ///
    /// # Panics
    /// If they are not, or a transpose or a bias does not fit its matrix.
    #[must_use]
    pub fn new(matrices: Vec<FrozenMatrix>) -> Self {
        let inputs = matrices.first().map_or(0, |m| m.packed.in_features());
        for matrix in &matrices {
            let (packed, back) = (&matrix.packed, &matrix.back);
            let sizes = (packed.out_features(), packed.in_features());
            assert_eq!(sizes.1, inputs, "matrices over different inputs");
            assert_eq!(
                (back.in_features(), back.out_features()),
                sizes,
                "the way back"
            );
            let fits = matrix.bias.as_ref().is_none_or(|b| b.len() == sizes.0);
            assert!(fits, "a bias of another length than the outputs");
        }
        let outputs = matrices.iter().map(|m| m.packed.out_features()).sum();
        Self {
            matrices,
            inputs,
            outputs,
        }
    }

    pub(super) const fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs of all matrices.
    pub(super) const fn outputs(&self) -> usize {
        self.outputs
    }

    /// How many matrices there are.
    pub(super) const fn len(&self) -> usize {
        self.matrices.len()
    }

    /// Numbers of these updates.
    pub(super) fn update_len(&self, each: &[Option<LowRank>]) -> usize {
        let sizes = self.matrices.iter().zip(each).map(|(matrix, update)| {
            update.map_or(0, |u| u.rank * (self.inputs + matrix.packed.out_features()))
        });
        sizes.sum()
    }

    fn parts(&self, updates: Updates<'_>) -> Vec<Part<'_>> {
        let (mut column, mut low, mut at) = (0, 0, updates.ranks() * self.inputs);
        let each = updates.each.iter().chain(std::iter::repeat(&None));
        let each = self.matrices.iter().zip(each);
        each.map(|(matrix, update)| {
            let outputs = matrix.packed.out_features();
            let part = Part {
                matrix,
                column,
                update: update.map(|LowRank { rank, scale }| PartUpdate {
                    rank,
                    scale,
                    column: low,
                    at,
                }),
            };
            column += outputs;
            if let Some(update) = update {
                low += update.rank;
                at += update.rank * outputs;
            }
            part
        })
        .collect()
    }

    /// Outputs of `x`, (rows, in), to `out`, (rows, outputs), and the low-rank products, scaled, to
    /// `low`, (rows, ranks).
    pub(super) fn forward(
        &self,
        x: &[f32],
        updates: Updates<'_>,
        out: &mut [f32],
        low: &mut [f32],
    ) {
        let (rows, ranks) = (x.len() / self.inputs, updates.ranks());
        let parts = self.parts(updates);
        if ranks > 0 {
            let dims = Dims {
                m: rows,
                n: ranks,
                k: self.inputs,
            };
            let a = Operand::row_major(updates.numbers, self.inputs).transposed();
            gemm(dims, Operand::row_major(x, self.inputs), a, low, F32);
            scale(low, ranks, &parts);
        }
        for part in &parts {
            let outputs = part.matrix.packed.out_features();
            let own = Product::Packed(Operand::row_major(x, self.inputs), &part.matrix.packed);
            let products = [
                Some(own),
                part.update.as_ref().map(|update| {
                    let b = Operand::row_major(&updates.numbers[update.at..], update.rank);
                    let low = columns(low, update.column, ranks);
                    Product::Plain(low, b.transposed(), update.rank)
                }),
            ];
            let target = Target {
                data: &mut out[part.column..],
                stride: self.outputs,
            };
            let products: Vec<Product<'_>> = products.into_iter().flatten().collect();
            sum_of_products((rows, outputs), &products, target);
        }
        if parts.iter().any(|part| part.matrix.bias.is_some()) {
            out.par_chunks_mut(self.outputs)
                .with_min_len(16)
                .for_each(|row| add_biases(row, &parts));
        }
    }

    /// Gradients of the low-rank products before their scale, (rows, ranks), from those of the
    /// outputs.
    pub(super) fn low_gradients(&self, dy: &[f32], updates: Updates<'_>, d_low: &mut [f32]) {
        let (rows, ranks) = (dy.len() / self.outputs, updates.ranks());
        let parts = self.parts(updates);
        for part in &parts {
            let Some(update) = &part.update else { continue };
            let dims = Dims {
                m: rows,
                n: update.rank,
                k: part.matrix.packed.out_features(),
            };
            let dy = columns(dy, part.column, self.outputs);
            let b = Operand::row_major(&updates.numbers[update.at..], update.rank);
            let target = Target {
                data: &mut d_low[update.column..],
                stride: ranks,
            };
            gemm_into(dims, (dy, b), target, F32);
        }
        if ranks > 0 {
            scale(d_low, ranks, &parts);
        }
    }

    /// The gradient of the input, (rows, in).
    pub(super) fn input_gradient(
        &self,
        (dy, d_low): (&[f32], &[f32]),
        updates: Updates<'_>,
        dx: &mut [f32],
    ) {
        let (rows, ranks) = (dy.len() / self.outputs, updates.ranks());
        let parts = self.parts(updates);
        let own = parts.iter().map(|part| {
            let dy = columns(dy, part.column, self.outputs);
            Product::Packed(dy, &part.matrix.back)
        });
        let low = (ranks > 0).then(|| {
            let a = Operand::row_major(updates.numbers, self.inputs);
            Product::Plain(Operand::row_major(d_low, ranks), a, ranks)
        });
        let products: Vec<Product<'_>> = own.chain(low).collect();
        let target = Target {
            data: dx,
            stride: self.inputs,
        };
        sum_of_products((rows, self.inputs), &products, target);
    }

    /// Gradients of the updates' numbers, laid out as they are.
    pub(super) fn update_gradients(
        &self,
        (x, low): (&[f32], &[f32]),
        (dy, d_low): (&[f32], &[f32]),
        updates: Updates<'_>,
        out: &mut [f32],
    ) {
        let (rows, ranks) = (dy.len() / self.outputs, updates.ranks());
        if ranks == 0 {
            return;
        }
        let dims = Dims {
            m: ranks,
            n: self.inputs,
            k: rows,
        };
        let d_low = Operand::row_major(d_low, ranks).transposed();
        let x = Operand::row_major(x, self.inputs);
        gemm(dims, d_low, x, &mut out[..ranks * self.inputs], F32);
        for part in self.parts(updates) {
            let Some(update) = part.update else { continue };
            let outputs = part.matrix.packed.out_features();
            let dims = Dims {
                m: outputs,
                n: update.rank,
                k: rows,
            };
            let dy = columns(dy, part.column, self.outputs).transposed();
            let low = columns(low, update.column, ranks);
            let to = update.at..update.at + outputs * update.rank;
            gemm(dims, dy, low, &mut out[to], F32);
        }
    }
}

/// Multiplies each update's columns of `low` by its scale.
fn scale(low: &mut [f32], ranks: usize, parts: &[Part<'_>]) {
    for row in low.chunks_exact_mut(ranks) {
        for update in parts.iter().filter_map(|part| part.update.as_ref()) {
            row[update.column..update.column + update.rank]
                .iter_mut()
                .for_each(|x| *x *= update.scale);
        }
    }
}

fn add_biases(row: &mut [f32], parts: &[Part<'_>]) {
    for part in parts {
        if let Some(bias) = &part.matrix.bias {
            row[part.column..]
                .iter_mut()
                .zip(bias.iter())
                .for_each(|(y, b)| *y += b);
        }
    }
}

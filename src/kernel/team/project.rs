//! Phases over linear layers: a task takes some of the output columns of all rows.

use std::cell::RefCell;
use std::ops::Range;

use super::super::matmul::{Operand, PackedMatrix};
use super::{Member, Rows, share};

/// A linear layer, and where its outputs go.
#[derive(Clone, Copy)]
pub struct Projection<'a> {
    /// (out, in)
    pub matrix: &'a PackedMatrix,
    /// (out,)
    pub bias: Option<&'a [f32]>,
    /// First of its columns in the output rows.
    pub column: usize,
    /// Which of an adapter's low-rank changes is its own.
    pub slot: usize,
}

/// A low-rank change of a linear layer, `scale · (x · downᵀ) · upᵀ` (arXiv 2106.09685).
pub struct LowRank {
    /// (rank, in)
    pub down: PackedMatrix,
    /// (out, rank)
    pub up: PackedMatrix,
    /// `alpha / rank`.
    pub scale: f32,
}

/// Neighbouring rows and the changes that one adapter makes to a layer's products, by slot.
#[derive(Clone)]
pub struct Delta<'a> {
    /// The rows.
    pub rows: Range<usize>,
    /// One for each linear layer that can be changed.
    pub slots: &'a [Option<LowRank>],
}

/// The first half of every change: `low[i] = scale · x · downᵀ` for the i-th projection, in columns
/// `i * most_rank..`. Nothing, not even a meeting, where no row is changed.
pub fn lower(
    member: &Member<'_>,
    projections: &[Projection<'_>],
    x: &Rows<'_>,
    (deltas, low): (&[Delta<'_>], &Rows<'_>),
) {
    if deltas.is_empty() {
        return;
    }
    let stride = low.width() / projections.len();
    let tasks = member.tasks(x.rows(), 2);
    member.phase(tasks, |task| {
        let mine = share(x.rows(), task, tasks);
        for delta in deltas {
            let rows = mine.start.max(delta.rows.start)..mine.end.min(delta.rows.end);
            for (index, projection) in projections.iter().enumerate() {
                if let Some(pair) = &delta.slots[projection.slot] {
                    first_half(pair, x, rows.clone(), (low, index * stride));
                }
            }
        }
    });
}

/// `scale · x · downᵀ` of some rows, into the columns of `low` from the given one on. The rows are
/// the calling task's own.
fn first_half(pair: &LowRank, x: &Rows<'_>, rows: Range<usize>, (low, column): (&Rows<'_>, usize)) {
    if rows.is_empty() {
        return;
    }
    let columns = column..column + pair.down.out_features();
    assert!(
        columns.end <= low.width(),
        "columns {columns:?} of {}",
        low.width()
    );
    // SAFETY: nobody writes to `x` in this phase.
    let from = Operand::row_major(unsafe { x.read(rows.clone()) }, pair.down.in_features());
    let to = (low.place(rows.start, column), low.width());
    // SAFETY: rows are shared out among the tasks, so these belong to this one; the columns lie
    // inside them by the check above.
    unsafe {
        pair.down
            .part_into(from, rows.len(), 0..pair.down.panels(), to)
    };
    for row in rows {
        // SAFETY: as above.
        let low = unsafe { low.part_mut(row, columns.clone()) };
        low.iter_mut().for_each(|x| *x *= pair.scale);
    }
}

/// Rows up to which every task packs what it reads: they are a few, and fit in the cache.
const PACKED_BY_TASKS: usize = 2;

/// Rows from which on a panel takes so long that tasks of a few make members wait for each other.
const MANY_ROWS: usize = 32;

/// Whether every task packs what it reads: also where the projections want it in different ways.
fn is_packed_by_tasks(projections: &[Projection<'_>], rows: usize) -> bool {
    let first = projections[0].matrix;
    rows <= PACKED_BY_TASKS
        || projections
            .iter()
            .any(|it| !it.matrix.packs_rows_like(first))
}

/// Packs the rows `x` for the projections, tile by tile. Nothing where `project` reads them as they
/// are.
fn pack(
    member: &Member<'_>,
    projections: &[Projection<'_>],
    rows: usize,
    (x, packed): (&Rows<'_>, &Rows<'_, u32>),
) {
    let matrix = projections[0].matrix;
    if is_packed_by_tasks(projections, rows) {
        return;
    }
    member.phase(matrix.tiles(rows), |index| {
        // SAFETY: nobody writes to `x` in this phase, and each tile is one task's own.
        unsafe {
            let to = packed.part_mut(0, matrix.tile_lanes(rows, index));
            matrix.pack_tile(x.read(0..rows), index, to);
        }
    });
}

/// `out = x · Wᵀ + bias`, and the second half of every change, for all projections at once.
///
/// `x` is (rows, in), `out` (rows, at least the columns of all projections), and `packed` one row
/// with room for `x` as the matrices want it.
pub fn project(
    member: &Member<'_>,
    projections: &[Projection<'_>],
    (x, packed, out): (&Rows<'_>, &Rows<'_, u32>, &Rows<'_>),
    (deltas, low): (&[Delta<'_>], &Rows<'_>),
) {
    pack(member, projections, out.rows(), (x, packed));
    let panels = |it: &Projection<'_>| it.matrix.panels();
    let all: usize = projections.iter().map(panels).sum();
    let packs = is_packed_by_tasks(projections, out.rows());
    // Fewer where each packs its rows again.
    let each = match out.rows() {
        _ if packs => 2,
        MANY_ROWS.. => 16,
        _ => 4,
    };
    let tasks = member.even_tasks(all, each);
    member.phase(tasks, |task| {
        let mine = share(all, task, tasks);
        let mut first = 0;
        for (index, projection) in projections.iter().enumerate() {
            let own = first..first + projection.matrix.panels();
            first = own.end;
            let panels = mine.start.max(own.start)..mine.end.min(own.end);
            if panels.is_empty() {
                continue;
            }
            let part = Part {
                packs,
                projection,
                panels: panels.start - own.start..panels.end - own.start,
                low: (low, index * (low.width() / projections.len())),
            };
            part.write((x, packed), out);
            deltas.iter().for_each(|delta| part.change(delta, out));
        }
    });
}

/// Some panels of one projection: one task's own columns of the output.
struct Part<'a> {
    projection: &'a Projection<'a>,
    panels: Range<usize>,
    /// Whether it packs its rows itself.
    packs: bool,
    /// Where its rows' first halves are, and from which column on.
    low: (&'a Rows<'a>, usize),
}

impl Part<'_> {
    fn columns(&self) -> Range<usize> {
        let within = self.projection.matrix.columns(&self.panels);
        self.projection.column + within.start..self.projection.column + within.end
    }

    fn write(&self, (x, packed): (&Rows<'_>, &Rows<'_, u32>), out: &Rows<'_>) {
        let Projection { matrix, bias, .. } = *self.projection;
        let (rows, columns) = (out.rows(), self.columns());
        assert!(
            columns.end <= out.width(),
            "columns {columns:?} of {}",
            out.width()
        );
        let to = (out.place(0, columns.start), out.width());
        // SAFETY: panels are shared out among the tasks, so these columns belong to this one; they
        // lie inside the rows by the check above. Nobody writes to `x` or `packed` in this phase.
        unsafe {
            let panels = self.panels.clone();
            if self.packs {
                let x = Operand::row_major(x.read(0..rows), x.width());
                matrix.part_into(x, rows, panels, to);
            } else {
                let lanes = rows * matrix.row_lanes();
                matrix.part_of_packed((&packed.read(0..1)[..lanes], rows), panels, to);
            }
        }
        let Some(bias) = bias else {
            return;
        };
        let bias = &bias[self.projection.matrix.columns(&self.panels)];
        for row in 0..rows {
            // SAFETY: as above.
            let out = unsafe { out.part_mut(row, columns.clone()) };
            out.iter_mut()
                .zip(bias)
                .for_each(|(out, bias)| *out += bias);
        }
    }

    fn change(&self, delta: &Delta<'_>, out: &Rows<'_>) {
        let Some(pair) = &delta.slots[self.projection.slot] else {
            return;
        };
        let (low, first) = self.low;
        let columns = self.columns();
        let rows = delta.rows.len();
        // SAFETY: nobody writes to `low` in this phase.
        let left = unsafe { low.read(delta.rows.clone()) };
        let left = Operand {
            data: &left[first..],
            row_stride: low.width(),
            col_stride: 1,
        };
        with_scratch(rows * columns.len(), |scratch| {
            let to = (scratch.as_mut_ptr(), columns.len());
            // SAFETY: the scratch holds so many rows of just these columns, and is this thread's.
            unsafe { pair.up.part_into(left, rows, self.panels.clone(), to) };
            for (row, change) in delta.rows.clone().zip(scratch.chunks_exact(columns.len())) {
                // SAFETY: these columns belong to this task, as in `write`.
                let out = unsafe { out.part_mut(row, columns.clone()) };
                out.iter_mut()
                    .zip(change)
                    .for_each(|(out, change)| *out += change);
            }
        });
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends `work` a buffer of this thread's, contents unspecified.
fn with_scratch(len: usize, work: impl FnOnce(&mut [f32])) {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        work(&mut scratch[..len]);
    });
}

//! Blocks of the product, spread over the threads: which rows meet which panels, and in what order.

use std::cell::RefCell;

use rayon::prelude::*;

use super::ahead::Ahead;
use super::columns::{Columns, pack_columns, packed_len, packed_part, strips};
use super::out::OutBlock;
use super::source::Source;
use super::tier::{Tier, Tile};
use super::{Form, Mode, PANEL, Precision, TILE_ROWS};

/// Packed lanes of depth taken at a time: a panel block of 64 KiB in the second-level cache, shared by the tiles of
/// one row block.
const DEPTH_BLOCK: usize = 512;
/// Lines of the cache that one step of a panel fills.
const STEP_LINES: usize = PANEL * size_of::<u32>() / 64;
/// Rows of one task, whose packed block stays in the second-level cache.
const ROW_BLOCK: usize = 8 * TILE_ROWS;
/// Packed lanes of columns that one product holds at a time, about: 4 MiB.
const PACKED_COLUMNS: usize = 1 << 20;
/// Panels of one task.
const PANELS_PER_TASK: usize = 32;
/// Rows of a task whose packing takes long.
const MANY_ROWS: usize = 4 * TILE_ROWS;
/// Panels that pay for it.
const FEW_PANELS: usize = 4;
/// Multiply-adds below which a second thread costs more than it brings.
pub(super) const SERIAL_BELOW: usize = 1 << 16;

/// `out = rows · columns`, or `+=`, packing the columns on the way, some depth at a time.
pub(super) fn product(
    tier: Tier,
    (rows, columns): (Source<'_>, Source<'_>),
    out: &OutBlock<'_>,
    mode: Mode,
) {
    let (m, n, k) = (rows.lanes(), columns.lanes(), columns.depth());
    let block = (PACKED_COLUMNS / n).max(1).next_multiple_of(DEPTH_BLOCK)
        * mode.precision.form().per_lane();
    let mut from = 0;
    loop {
        let depth = block.min(k - from);
        let columns = columns.part(0, n, from, depth);
        with_scratch(packed_len(columns, mode.precision), |lanes| {
            pack_columns(tier, mode.precision, columns, lanes);
            let columns = Columns {
                lanes,
                k: depth,
                precision: mode.precision,
            };
            let rows = rows.part(0, m, from, depth);
            let term = Term { rows, columns };
            multiply(tier, &[term], out, mode.accumulate || from > 0);
        });
        from += depth;
        if from >= k {
            break;
        }
    }
}

/// One product of a sum.
#[derive(Clone, Copy)]
pub(super) struct Term<'a> {
    /// Rows of the output, by the inner dimension of this product.
    pub(super) rows: Source<'a>,
    /// Columns of the output.
    pub(super) columns: Columns<'a>,
}

/// `out = rows · columns`, or `+=`, where that is the sum over `terms`, one after another.
///
/// A block of the output gets all terms while it is in a cache. All have as many rows and columns.
pub(super) fn multiply(tier: Tier, terms: &[Term<'_>], out: &OutBlock<'_>, accumulate: bool) {
    let (m, n) = (out.rows(), out.columns());
    let depth: usize = terms.iter().map(|term| term.columns.k).sum();
    if depth == 0 {
        if !accumulate {
            out.clear();
        }
        return;
    }
    let panels = n.div_ceil(PANEL);
    let row_block = row_block(m);
    let row_tasks = m.div_ceil(row_block);
    let per_task = panels_per_task((row_tasks, row_block), panels);
    let panel_tasks = panels.div_ceil(per_task);
    let run = |task: usize| {
        let row = (task % row_tasks) * row_block;
        let panel = (task / row_tasks) * per_task;
        let row_count = row_block.min(m - row);
        let panel_count = per_task.min(panels - panel);
        let first_column = panel * PANEL;
        let column_count = (panel_count * PANEL).min(n - first_column);
        // SAFETY: tasks differ in their rows or in their panels, so no two of these rectangles overlap.
        let block = unsafe { out.part((row, row_count), (first_column, column_count)) };
        Task {
            tier,
            terms,
            row,
            panel,
            accumulate,
        }
        .run(&block);
    };
    if m * n * depth < SERIAL_BELOW {
        (0..row_tasks * panel_tasks).for_each(run);
    } else {
        (0..row_tasks * panel_tasks)
            .into_par_iter()
            .with_max_len(1)
            .for_each(run);
    }
}

/// Rows of one task. Many rows are cut into whole tiles, as many to a task as let all threads end
/// together.
fn row_block(m: usize) -> usize {
    let (threads, most) = (rayon::current_num_threads(), ROW_BLOCK / TILE_ROWS);
    let tiles = m.div_ceil(TILE_ROWS);
    if tiles <= threads * most {
        return m.div_ceil(m.div_ceil(ROW_BLOCK));
    }
    // tiles that the last thread is through with
    let end = |each: usize| {
        let (full, rest) = (tiles / each, tiles % each);
        match full % threads {
            0 => full / threads * each + rest,
            _ => full.div_ceil(threads) * each,
        }
    };
    let best = (most / 2 + 1..=most).rev().min_by_key(|each| end(*each));
    best.unwrap_or(most) * TILE_ROWS
}

/// The panels from `panel` on of `out = rows · columns`, as many as `out` has columns for, on this
/// thread.
pub(super) fn part(
    tier: Tier,
    (rows, columns): (Source<'_>, Columns<'_>),
    panel: usize,
    out: &OutBlock<'_>,
) {
    let (m, width) = (rows.lanes(), out.columns());
    let row_block = m.div_ceil(m.div_ceil(ROW_BLOCK));
    for row in (0..m).step_by(row_block) {
        let count = row_block.min(m - row);
        // SAFETY: one of these parts at a time is alive.
        let block = unsafe { out.part((row, count), (0, width)) };
        Task {
            tier,
            terms: &[Term { rows, columns }],
            row,
            panel,
            accumulate: false,
        }
        .run(&block);
    }
}

/// Lanes of one packed row.
pub(super) fn row_lanes(tier: Tier, precision: Precision, k: usize) -> usize {
    precision.form().lanes(k) * per_step(tier.row_form(precision))
}

/// Lanes of a row for each lane of a panel.
const fn per_step(form: Form) -> usize {
    match form {
        Form::Widened => 2,
        Form::F32 | Form::Pairs => 1,
    }
}

/// Packs tile `index` of all rows into its place among the packed rows, whole depth.
pub(super) fn pack_tile(
    tier: Tier,
    (rows, precision): (Source<'_>, Precision),
    index: usize,
    to: &mut [u32],
) {
    let form = tier.row_form(precision);
    let (row, count) = nth_tile(rows.lanes(), TILE_ROWS, index);
    let depth = to.len() / count;
    for (from, steps) in strips(rows, depth) {
        let part = packed_part(form, rows, (row, count), (from, steps));
        tier.pack(
            form,
            part,
            count,
            &mut to[from * count..(from + steps) * count],
        );
    }
}

/// As `part`, of rows that `pack_tile` has packed, tile after tile.
pub(super) fn part_of_packed(
    tier: Tier,
    (packed, columns): (&[u32], Columns<'_>),
    panel: usize,
    out: &OutBlock<'_>,
) {
    let (m, width) = (out.rows(), out.columns());
    let total = columns.precision.form().lanes(columns.k);
    let per_row = packed.len() / m;
    let count = m.div_ceil(TILE_ROWS);
    // As many tiles as make a row block share each block of panels while it is in the cache.
    for first in (0..count).step_by(ROW_BLOCK / TILE_ROWS) {
        let last = (first + ROW_BLOCK / TILE_ROWS).min(count) - 1;
        let (row, (end, rows)) = (
            nth_tile(m, TILE_ROWS, first).0,
            nth_tile(m, TILE_ROWS, last),
        );
        // SAFETY: one of these parts at a time is alive.
        let block = unsafe { out.part((row, end + rows - row), (0, width)) };
        for from in (0..total).step_by(DEPTH_BLOCK) {
            let depth = (from, DEPTH_BLOCK.min(total - from));
            let left = Left {
                lanes: &packed[row * per_row..],
                per_row,
                from,
                tiles: (m, first..last + 1),
            };
            left.times((tier, columns, panel), depth, from > 0, &block);
        }
    }
}

/// Packed rows, tile after tile, each `[depth][rows]`.
struct Left<'a> {
    lanes: &'a [u32],
    /// Lanes of each row.
    per_row: usize,
    /// Step of the panels at which the depth block begins, counted in these lanes' own depth.
    from: usize,
    /// Which of the tiles of how many rows these are.
    tiles: (usize, std::ops::Range<usize>),
}

impl Left<'_> {
    /// The product with `(from, count)` steps of the panels from `panel` on.
    fn times(
        &self,
        (tier, columns, first_panel): (Tier, Columns<'_>, usize),
        (from, depth): (usize, usize),
        accumulate: bool,
        out: &OutBlock<'_>,
    ) {
        let per_step = per_step(tier.row_form(columns.precision));
        let panels = out.columns().div_ceil(PANEL);
        let most = tier.most_panels(out.rows());
        let (m, tiles) = (self.tiles.0, self.tiles.1.clone());
        let first_row = nth_tile(m, TILE_ROWS, tiles.start).0;
        let mut panel = 0;
        while panel < panels {
            let count = if panels - panel >= most { most } else { 1 };
            let column = panel * PANEL;
            let width = (count * PANEL).min(out.columns() - column);
            let here = columns.panels(first_panel + panel, from);
            let next = match (panel + count < panels, from + depth) {
                (true, _) => columns.rest(first_panel + panel + count, from),
                (false, deeper) if deeper < columns.depth() => columns.rest(first_panel, deeper),
                (false, _) => columns.rest(first_panel + panels, 0),
            };
            for (pass, index) in tiles.clone().enumerate() {
                let (row, rows) = nth_tile(m, TILE_ROWS, index);
                let row = row - first_row;
                let start = row * self.per_row + self.from * per_step * rows;
                // SAFETY: one tile at a time is alive here, and the block is this call's own.
                let part = unsafe { out.part((row, rows), (column, width)) };
                let tile = Tile {
                    rows: &self.lanes[start..start + depth * per_step * rows],
                    panels: here,
                    panel_stride: columns.panel_len(),
                    depth,
                    accumulate,
                    ahead: Ahead::share(
                        (here, next),
                        (pass, tiles.len()),
                        rows,
                        (depth, STEP_LINES),
                    ),
                };
                tier.tile(columns.precision, tile, part);
            }
            panel += count;
        }
    }
}

/// Fewer panels per task until every thread has several tasks. Each task packs its rows, which pays
/// where they meet several panels: for many rows one task for each thread is enough before that.
fn panels_per_task((row_tasks, rows): (usize, usize), panels: usize) -> usize {
    let threads = rayon::current_num_threads();
    let mut per_task = PANELS_PER_TASK.min(panels);
    let tasks = |per_task: usize| row_tasks * panels.div_ceil(per_task);
    while per_task > 1 && tasks(per_task) < 4 * threads {
        let next = per_task.div_ceil(2);
        if rows >= MANY_ROWS && next < FEW_PANELS && tasks(per_task) >= threads {
            break;
        }
        per_task = next;
    }
    per_task
}

/// One rectangle of the output: rows from `row` on by the panels from `panel` on.
struct Task<'a> {
    tier: Tier,
    terms: &'a [Term<'a>],
    row: usize,
    panel: usize,
    accumulate: bool,
}

impl Task<'_> {
    fn run(&self, out: &OutBlock<'_>) {
        let mut accumulate = self.accumulate;
        for term in self.terms.iter().filter(|term| term.columns.k > 0) {
            self.add(term, accumulate, out);
            accumulate = true;
        }
    }

    fn add(&self, term: &Term<'_>, accumulate: bool, out: &OutBlock<'_>) {
        let columns = term.columns;
        let total = columns.precision.form().lanes(columns.k);
        let row_count = out.rows();
        let rows = term.rows.part(self.row, row_count, 0, columns.k);
        // Few rows fit in the cache at any depth, and then panels are best read in one go.
        let block = if row_count <= 4 { total } else { DEPTH_BLOCK };
        let form = self.tier.row_form(columns.precision);
        let per_step = per_step(form);
        with_scratch(row_count * total.min(block) * per_step, |packed| {
            for from in (0..total).step_by(block) {
                let depth = block.min(total - from);
                let packed = &mut packed[..row_count * depth * per_step];
                let steps = (from * per_step, depth * per_step);
                pack_rows(self.tier, rows, steps, form, packed);
                let left = Left {
                    lanes: packed,
                    per_row: depth * per_step,
                    from: 0,
                    tiles: (row_count, 0..row_count.div_ceil(TILE_ROWS)),
                };
                let right = (self.tier, columns, self.panel);
                left.times(right, (from, depth), accumulate || from > 0, out);
            }
        });
    }
}

/// Packs the steps `(from, count)` of all rows, tile after tile.
fn pack_rows(
    tier: Tier,
    rows: Source<'_>,
    (from, depth): (usize, usize),
    form: Form,
    packed: &mut [u32],
) {
    for (strip, steps) in strips(rows, depth) {
        for (row, count) in tiles(rows.lanes()) {
            let part = packed_part(form, rows, (row, count), (from + strip, steps));
            let start = row * depth + strip * count;
            tier.pack(form, part, count, &mut packed[start..start + steps * count]);
        }
    }
}

/// Rows cut into tiles of nearly equal height: `(first, count)`.
fn tiles(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows.div_ceil(TILE_ROWS)).map(move |index| nth_tile(rows, TILE_ROWS, index))
}

/// The tile of that index, where none has more than `most` rows.
pub(super) fn nth_tile(rows: usize, most: usize, index: usize) -> (usize, usize) {
    let count = rows.div_ceil(most);
    let first = index * rows / count;
    (first, (index + 1) * rows / count - first)
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `work` a buffer of `len` lanes (contents unspecified), kept by this thread for the next call.
pub(super) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [u32]) -> R) -> R {
    // The buffer leaves the store while it is lent, for a thread may take up another product while it waits.
    let mut buffer = SCRATCH
        .with(|store| store.borrow_mut().pop())
        .unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let result = work(&mut buffer[..len]);
    SCRATCH.with(|store| store.borrow_mut().push(buffer));
    result
}

//! Queries that share their keys and values look back at the tokens before them.
//!
//! Each query's numbers are made in an order that depends on its own position alone, whatever
//! queries are beside it and wherever the blocks lie.

use std::cell::RefCell;
use std::ops::Range;

use super::number::CacheNumber;
use super::products::{COLUMNS, MOST_GROUPS, MOST_ROWS, Products};
use super::{Kept, Placed};
use crate::kernel::BLOCK_TOKENS;
use crate::kernel::attention::AttentionShape;
use crate::kernel::math::{exp_shifted, max, mul_add};
use crate::kernel::team::Rows;

/// Some heads of neighbouring rows of one sequence: at most `MOST_ROWS` queries, all with the same
/// keys and values.
pub(super) struct Tile<'a, T> {
    /// Where the rows are, and which of all rows is the first.
    pub(super) placed: (&'a [Placed<'a>], usize),
    /// Query heads.
    pub(super) heads: Range<usize>,
    /// The head of their keys and values.
    pub(super) kv_head: usize,
    pub(super) cache: &'a Kept<'a, T>,
    pub(super) shape: &'a AttentionShape,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// (head_dim, queries)
    queries: Vec<f32>,
    /// (queries, positions)
    scores: Vec<f32>,
    /// (positions, queries)
    shares: Vec<f32>,
    /// (queries, head_dim)
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<T: CacheNumber> Tile<'_, T> {
    /// Attention of the tile's queries in `qkv`, (rows, queries and more), into `out`, (rows,
    /// queries).
    ///
    /// # Safety
    /// Nobody writes to `qkv` or the cache, and nobody else reaches the tile's rows and heads of
    /// `out`.
    pub(super) unsafe fn look_back(&self, qkv: &Rows<'_>, out: &Rows<'_>) {
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch {
                queries,
                scores,
                shares,
                sums,
            } = scratch;
            self.fetch_first();
            for index in 0..self.count() {
                let (row, columns) = self.query(index);
                // SAFETY: nobody writes to it, by the caller's word.
                let query = &unsafe { qkv.read(row..row + 1) }[columns];
                self.put(query, index, queries);
            }
            self.score(queries, scores);
            let mut totals = [0.0; MOST_ROWS];
            for (index, total) in totals[..self.count()].iter_mut().enumerate() {
                let length = self.length();
                let seen = self.seen(index);
                let scores = &mut scores[index * length..][seen];
                weigh(scores, self.shape, total);
            }
            self.add_values(scores, shares, sums);
            let sums = sums.chunks_exact(self.shape.head_dim);
            for (index, (sums, total)) in sums.zip(totals).take(self.count()).enumerate() {
                let (row, columns) = self.query(index);
                // SAFETY: the tile's own, by the caller's word.
                let out = unsafe { out.part_mut(row, columns) };
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum / total;
                }
            }
        });
    }

    /// Number of queries.
    fn count(&self) -> usize {
        self.placed.0.len() * self.heads.len()
    }

    /// Row and columns of a query.
    fn query(&self, index: usize) -> (usize, Range<usize>) {
        let head = self.heads.start + index % self.heads.len();
        let width = self.shape.head_dim;
        let row = self.placed.1 + index / self.heads.len();
        (row, head * width..(head + 1) * width)
    }

    /// Positions that a query sees.
    fn visible(&self, index: usize) -> Range<usize> {
        let position = self.placed.0[index / self.heads.len()].position;
        self.shape.first_visible(position)..position + 1
    }

    /// Blocks with a position that some query sees.
    pub(super) fn blocks(&self) -> Range<usize> {
        let (first, last) = (self.visible(0), self.visible(self.count() - 1));
        first.start / BLOCK_TOKENS..last.end.div_ceil(BLOCK_TOKENS)
    }

    /// Blocks of which all queries see all.
    fn whole_blocks(&self) -> Range<usize> {
        let (first, last) = (self.visible(0), self.visible(self.count() - 1));
        last.start.div_ceil(BLOCK_TOKENS)..first.end / BLOCK_TOKENS
    }

    /// Positions of all blocks.
    fn length(&self) -> usize {
        self.blocks().len() * BLOCK_TOKENS
    }

    /// Positions that a query sees, counted from the first block on.
    fn seen(&self, index: usize) -> Range<usize> {
        let first = self.blocks().start * BLOCK_TOKENS;
        let Range { start, end } = self.visible(index);
        start - first..end - first
    }

    /// The shared keys and values of a block.
    pub(super) fn block(&self, index: usize) -> (&[T], &[T]) {
        let block = self.placed.0[0].blocks[index] as usize;
        let row = self.cache.row(block, self.kv_head);
        // SAFETY: keys and values are written by `place` only, which another phase than this is.
        unsafe {
            let keys = self.cache.keys.read(row..row + 1);
            (keys, self.cache.values.read(row..row + 1))
        }
    }

    /// Puts a query where the products read it.
    fn put(&self, query: &[f32], index: usize, queries: &mut Vec<f32>) {
        let count = self.count();
        grow(queries, count * query.len());
        for (to, number) in queries.chunks_exact_mut(count).zip(query) {
            to[index] = *number;
        }
    }

    /// Products of all queries with the keys of all blocks.
    fn score(&self, queries: &[f32], scores: &mut Vec<f32>) {
        let (count, length) = (self.count(), self.length());
        grow(scores, count * length);
        let mut at = 0;
        let blocks = self.blocks();
        for first in blocks.clone().step_by(MOST_GROUPS) {
            let groups = MOST_GROUPS.min(blocks.end - first);
            let turn = first - blocks.start;
            (turn..turn + groups).for_each(|turn| self.fetch_after(turn));
            let keys: [&[T]; MOST_GROUPS] =
                std::array::from_fn(|group| self.block(first + group.min(groups - 1)).0);
            let products = Products {
                steps: self.shape.head_dim,
                rows: count,
                a: (queries, count),
                b: (&keys[..groups], BLOCK_TOKENS),
                fresh: true,
            };
            products.write(&mut scores[at..], length);
            at += groups * BLOCK_TOKENS;
        }
    }

    /// The sums of the values, each by its share. Of a block that some query does not see all of,
    /// every query takes its own part: the rest may hold anything.
    fn add_values(&self, scores: &[f32], shares: &mut Vec<f32>, sums: &mut Vec<f32>) {
        let (count, width) = (self.count(), self.shape.head_dim);
        grow(sums, count * width);
        let sums = &mut sums[..count * width];
        sums.fill(0.0);
        let whole = self.whole_blocks();
        if whole.is_empty() {
            return self.add_own(|seen| seen, scores, sums);
        }
        let positions = whole.start * BLOCK_TOKENS..whole.end * BLOCK_TOKENS;
        self.add_own(|seen| seen.start..positions.start, scores, sums);
        self.turn(scores, positions.clone(), shares);
        let shares = shares.chunks_exact(BLOCK_TOKENS * count);
        let blocks = self.blocks();
        for (block, shares) in whole.zip(shares) {
            self.fetch_after(blocks.len() + block - blocks.start);
            let values = self.block(block).1;
            add_slots((shares, count), (values, 0..BLOCK_TOKENS), sums, width);
        }
        self.add_own(|seen| positions.end..seen.end, scores, sums);
    }

    /// Adds, query by query, the values of the positions that `part` takes of those it sees.
    fn add_own(
        &self,
        part: impl Fn(Range<usize>) -> Range<usize>,
        scores: &[f32],
        sums: &mut [f32],
    ) {
        let (length, width) = (self.length(), self.shape.head_dim);
        let first = self.blocks().start * BLOCK_TOKENS;
        for (index, sums) in sums.chunks_exact_mut(width).enumerate() {
            let mut positions = part(self.visible(index));
            while !positions.is_empty() {
                let block = positions.start / BLOCK_TOKENS;
                let at = block * BLOCK_TOKENS;
                let slots = positions.start - at..(positions.end - at).min(BLOCK_TOKENS);
                let shares = &scores[index * length + positions.start - first..];
                positions.start = at + slots.end;
                add_slots((shares, 1), (self.block(block).1, slots), sums, width);
            }
        }
    }

    /// Writes the shares of these positions position by position.
    fn turn(&self, scores: &[f32], positions: Range<usize>, shares: &mut Vec<f32>) {
        let (count, length) = (self.count(), self.length());
        grow(shares, positions.len() * count);
        let at = positions.start - self.blocks().start * BLOCK_TOKENS;
        for index in 0..count {
            let scores = &scores[index * length + at..][..positions.len()];
            for (to, share) in shares.chunks_exact_mut(count).zip(scores) {
                to[index] = *share;
            }
        }
    }
}

fn grow(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
}

/// Adds to each of `rows` sums, (rows, width), some slots of a block's values, (slots, width), by
/// the shares, (slots, rows).
fn add_slots<T: CacheNumber>(
    (shares, rows): (&[f32], usize),
    (values, slots): (&[T], Range<usize>),
    sums: &mut [f32],
    width: usize,
) {
    let values = &values[slots.start * width..slots.end * width];
    let whole = width / COLUMNS * COLUMNS;
    for first in (0..whole).step_by(MOST_GROUPS * COLUMNS) {
        let groups = MOST_GROUPS.min((whole - first) / COLUMNS);
        let parts: [&[T]; MOST_GROUPS] =
            std::array::from_fn(|group| &values[first + group.min(groups - 1) * COLUMNS..]);
        let products = Products {
            steps: slots.len(),
            rows,
            a: (shares, rows),
            b: (&parts[..groups], width),
            fresh: false,
        };
        products.write(&mut sums[first..], width);
    }
    if whole < width {
        let slots = values.chunks_exact(width).zip(shares.chunks_exact(rows));
        for (values, shares) in slots {
            for (sums, share) in sums.chunks_exact_mut(width).zip(shares) {
                add_rest(*share, &values[whole..], &mut sums[whole..]);
            }
        }
    }
}

simd_dispatch! {
    fn add_rest[T: CacheNumber][T](share: f32, values: &[T], sums: &mut [f32]) = add_rest_body;
}

#[inline(always)]
fn add_rest_body<const FMA: bool, T: CacheNumber>(share: f32, values: &[T], sums: &mut [f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = mul_add::<FMA>(share, value.wide(), *sum);
    }
}

simd_dispatch! {
    /// Turns the products that one query sees into shares, which add up to `total`.
    fn weigh(products: &mut [f32], shape: &AttentionShape, total: &mut f32) = weigh_body;
}

#[inline(always)]
fn weigh_body<const FMA: bool>(products: &mut [f32], shape: &AttentionShape, total: &mut f32) {
    for product in &mut *products {
        *product *= shape.scale;
    }
    if let Some(cap) = shape.softcap {
        for score in &mut *products {
            *score = cap * (*score / cap).tanh();
        }
    }
    let top = max(products);
    *total = exp_shifted::<FMA>(products, top);
}

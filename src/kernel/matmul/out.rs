//! The output as blocks that several threads fill at once.

use std::marker::PhantomData;

/// A rectangle of a row-major output. Invariant: every element of it lies inside the slice it was made from.
pub(super) struct OutBlock<'a> {
    start: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block stands for a `&mut [f32]` (or a part of one), which is Send; `part` obliges its callers to keep
// parts that are alive together apart.
unsafe impl Send for OutBlock<'_> {}
// SAFETY: a shared block gives access to its elements only through `part` and the tile kernels' unsafe pointers,
// whose callers keep their rectangles apart.
unsafe impl Sync for OutBlock<'_> {}

impl<'a> OutBlock<'a> {
    /// `rows` rows of `columns` numbers that begin `stride` numbers apart: columns of a wider matrix.
    pub(super) fn strided(
        out: &'a mut [f32],
        (rows, columns): (usize, usize),
        stride: usize,
    ) -> Self {
        let empty = rows == 0 || columns == 0;
        let reach = rows.saturating_sub(1).saturating_mul(stride);
        assert!(
            empty || (columns <= stride && reach.saturating_add(columns) <= out.len()),
            "an output of {rows}x{columns}, {stride} apart, does not fit {} numbers",
            out.len()
        );
        Self {
            start: out.as_mut_ptr(),
            stride,
            rows,
            columns,
            owner: PhantomData,
        }
    }

    /// A rectangle whose rows start at `place.0` and lie `place.1` numbers apart.
    ///
    /// # Safety
    /// Nobody else reaches its elements while the block is alive.
    pub(super) unsafe fn at(place: (*mut f32, usize), rows: usize, columns: usize) -> Self {
        Self {
            start: place.0,
            stride: place.1,
            rows,
            columns,
            owner: PhantomData,
        }
    }

    /// The rectangle of `(first, count)` rows and `(first, count)` columns.
    ///
    /// # Safety
    /// Parts that are alive at the same time must not overlap.
    pub(super) unsafe fn part(
        &self,
        rows: (usize, usize),
        columns: (usize, usize),
    ) -> OutBlock<'_> {
        let inside = rows.0 + rows.1 <= self.rows && columns.0 + columns.1 <= self.columns;
        assert!(inside, "a part of the output lies outside it");
        OutBlock {
            // SAFETY: the part's first element lies inside the slice, by the check above and the invariant
            // (an empty part may point one past the end).
            start: unsafe { self.start.add(rows.0 * self.stride + columns.0) },
            stride: self.stride,
            rows: rows.1,
            columns: columns.1,
            owner: PhantomData,
        }
    }

    /// Makes every element zero.
    pub(super) fn clear(&self) {
        for row in 0..self.rows {
            // SAFETY: one row of the block, which lies inside its slice; the caller of `part` keeps
            // blocks that are alive apart.
            let row = unsafe {
                std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns)
            };
            row.fill(0.0);
        }
    }

    pub(super) const fn start(&mut self) -> *mut f32 {
        self.start
    }

    pub(super) const fn stride(&self) -> usize {
        self.stride
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn columns(&self) -> usize {
        self.columns
    }
}

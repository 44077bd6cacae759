//! A buffer that the members of a team fill together and then read together.

use std::marker::PhantomData;
use std::ops::Range;

/// (rows, width), row-major, shared by the members of one pass.
///
/// Invariant: it stands for a `&mut [T]` of `rows * width`. Only the phases of this module reach
/// its elements, each of which says who writes what; between two phases all members meet.
pub struct Rows<'a, T = f32> {
    start: *mut T,
    rows: usize,
    width: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, which is Send where T is.
unsafe impl<T: Send> Send for Rows<'_, T> {}
// SAFETY: elements are reached through the unsafe functions below alone, whose callers keep what is
// written apart from all that is reached beside it.
unsafe impl<T: Send + Sync> Sync for Rows<'_, T> {}

impl<'a, T: Copy + Default> Rows<'a, T> {
    /// `rows` by `width` numbers of `buffer`, which grows where it is too short. Contents are
    /// whatever they were.
    pub fn of(buffer: &'a mut Vec<T>, rows: usize, width: usize) -> Self {
        let len = rows.saturating_mul(width);
        if buffer.len() < len {
            buffer.resize(len, T::default());
        }
        Self::over(buffer, rows, width)
    }

    /// `rows` by `width` numbers of a buffer that has so many.
    pub fn over(buffer: &'a mut [T], rows: usize, width: usize) -> Self {
        assert!(
            rows.checked_mul(width)
                .is_some_and(|len| len <= buffer.len()),
            "{rows}x{width} numbers of {}",
            buffer.len()
        );
        Self {
            start: buffer.as_mut_ptr(),
            rows,
            width,
            owner: PhantomData,
        }
    }

    /// The first rows of them, at most as many as there are.
    #[must_use]
    pub fn first(&self, rows: usize) -> Self {
        Self {
            rows: rows.min(self.rows),
            ..*self
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The place of one element.
    pub(super) fn place(&self, row: usize, column: usize) -> *mut T {
        assert!(
            row < self.rows.max(1) && column <= self.width,
            "row {row}, column {column} of {}x{}",
            self.rows,
            self.width
        );
        // Inside the buffer, or just past its end, by the check above.
        self.start.wrapping_add(row * self.width + column)
    }

    /// # Safety
    /// Nobody writes to these rows before the members meet again.
    pub(super) unsafe fn read(&self, rows: Range<usize>) -> &[T] {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows {rows:?} of {}",
            self.rows
        );
        // SAFETY: inside the buffer by the check above, and not written to by the caller's word.
        unsafe {
            let start = self.start.add(rows.start * self.width);
            std::slice::from_raw_parts(start, rows.len() * self.width)
        }
    }

    /// # Safety
    /// Nobody else reaches this row before the members meet again.
    #[expect(
        clippy::mut_from_ref,
        reason = "members share the buffer and keep rows apart"
    )]
    pub(super) unsafe fn row_mut(&self, row: usize) -> &mut [T] {
        // SAFETY: passed on to the caller.
        unsafe { self.part_mut(row, 0..self.width) }
    }

    /// # Safety
    /// Nobody else reaches these elements before the members meet again.
    #[expect(
        clippy::mut_from_ref,
        reason = "members share the buffer and keep elements apart"
    )]
    pub(super) unsafe fn part_mut(&self, row: usize, columns: Range<usize>) -> &mut [T] {
        assert!(
            row < self.rows && columns.start <= columns.end && columns.end <= self.width,
            "row {row}, columns {columns:?} of {}x{}",
            self.rows,
            self.width
        );
        // SAFETY: inside the buffer by the check above, and the caller's own by its word.
        unsafe {
            let start = self.start.add(row * self.width + columns.start);
            std::slice::from_raw_parts_mut(start, columns.len())
        }
    }
}

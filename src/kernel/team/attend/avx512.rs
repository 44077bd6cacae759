//! The same products with 16 columns in one register, up to 12 rows or 4 groups at a time.

use std::arch::x86_64::{
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::number::CacheNumber;
use super::products::{COLUMNS, Products};

/// Proof that this processor has AVX-512 F.
#[derive(Clone, Copy)]
pub(super) struct Present(());

impl Present {
    /// The proof, where it holds.
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }
}

macro_rules! each {
    ($row:ident of $rows:ident, $group:ident of $groups:ident, $body:block) => {
        each!(@ $row, $rows, $group, $groups, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $row:ident, $rows:ident, $group:ident, $groups:ident, $body:block, $($at:literal)*) => {
        $( if $at < $rows { const $row: usize = $at; each!(% $group, $groups, $body, 0 1 2 3); } )*
    };
    (% $group:ident, $groups:ident, $body:block, $($at:literal)*) => {
        $( if $at < $groups { const $group: usize = $at; $body } )*
    };
}

/// Lengths are checked by the caller.
pub(super) fn products<T: CacheNumber>(
    _: Present,
    all: &Products<'_, T>,
    sums: &mut [f32],
    distance: usize,
) {
    // Enough sums at a time to keep the multipliers busy, few enough for the registers.
    let together = match all.rows {
        1..=3 => 4,
        4..=6 => 2,
        _ => 1,
    };
    let mut first = 0;
    while first < all.b.0.len() {
        let left = all.b.0.len() - first;
        let groups = if left >= together { together } else { 1 };
        let part = Part {
            all,
            first,
            sums: sums.as_mut_ptr().wrapping_add(first * COLUMNS),
            distance,
        };
        // SAFETY: `Present` proves the instructions, and the caller has checked the lengths.
        unsafe { part.of_groups(groups) };
        first += groups;
    }
}

/// Some groups of all rows, from `first` on.
struct Part<'a, T> {
    all: &'a Products<'a, T>,
    first: usize,
    sums: *mut f32,
    distance: usize,
}

impl<T: CacheNumber> Part<'_, T> {
    #[target_feature(enable = "avx512f")]
    unsafe fn of_groups(self, groups: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            match (self.all.rows, groups) {
                (1, 4) => self.run::<1, 4>(),
                (2, 4) => self.run::<2, 4>(),
                (3, 4) => self.run::<3, 4>(),
                (4, 2) => self.run::<4, 2>(),
                (5, 2) => self.run::<5, 2>(),
                (6, 2) => self.run::<6, 2>(),
                (1, _) => self.run::<1, 1>(),
                (2, _) => self.run::<2, 1>(),
                (3, _) => self.run::<3, 1>(),
                (4, _) => self.run::<4, 1>(),
                (5, _) => self.run::<5, 1>(),
                (6, _) => self.run::<6, 1>(),
                (7, _) => self.run::<7, 1>(),
                (8, _) => self.run::<8, 1>(),
                (9, _) => self.run::<9, 1>(),
                (10, _) => self.run::<10, 1>(),
                (11, _) => self.run::<11, 1>(),
                _ => self.run::<12, 1>(),
            }
        }
    }

    /// # Safety
    /// There are `ROWS` rows and `GROUPS` groups from the first on; rows, groups and sums reach as
    /// far as the steps and distances say.
    #[target_feature(enable = "avx512f")]
    unsafe fn run<const ROWS: usize, const GROUPS: usize>(self) {
        let mut sums = [[_mm512_setzero_ps(); GROUPS]; ROWS];
        let Products { steps, a, b, .. } = *self.all;
        let mut left = a.0.as_ptr();
        let groups = &b.0[self.first..self.first + GROUPS];
        let mut at = 0;
        // SAFETY: `left` and `at` advance by the steps whose reach the caller has checked, and each
        // row of sums is the caller's own.
        unsafe {
            if !self.all.fresh {
                each!(ROW of ROWS, GROUP of GROUPS, {
                    let place = self.sums.wrapping_add(ROW * self.distance + GROUP * COLUMNS);
                    sums[ROW][GROUP] = _mm512_loadu_ps(place);
                });
            }
            for _ in 0..steps {
                let mut right = [_mm512_setzero_ps(); GROUPS];
                each!(% GROUP, GROUPS, {
                    right[GROUP] = T::sixteen(groups[GROUP].as_ptr().add(at));
                }, 0 1 2 3);
                each!(ROW of ROWS, GROUP of GROUPS, {
                    let one = _mm512_set1_ps(left.add(ROW).read());
                    sums[ROW][GROUP] = _mm512_fmadd_ps(one, right[GROUP], sums[ROW][GROUP]);
                });
                left = left.wrapping_add(a.1);
                at += b.1;
            }
            each!(ROW of ROWS, GROUP of GROUPS, {
                let place = self.sums.wrapping_add(ROW * self.distance + GROUP * COLUMNS);
                _mm512_storeu_ps(place, sums[ROW][GROUP]);
            });
        }
    }
}

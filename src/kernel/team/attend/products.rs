//! Products of a few rows with 16 columns at a time, whose sums stay in registers.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::number::CacheNumber;
use crate::kernel::math::mul_add;

/// Columns of a group: one vector of sums.
pub(super) const COLUMNS: usize = 16;
/// Most rows of one product.
pub(super) const MOST_ROWS: usize = 12;
/// Most groups of columns of one product.
pub(super) const MOST_GROUPS: usize = 4;

/// `sums[row][16 g + c] = Σ a[step][row] · b[g][step][c]`, in ascending order of the steps.
///
/// Every sum is one chain of multiply-adds, whatever else is made beside it.
#[derive(Clone, Copy)]
pub(super) struct Products<'a, T> {
    /// Terms of each sum.
    pub(super) steps: usize,
    /// At most `MOST_ROWS`.
    pub(super) rows: usize,
    /// The numbers of the rows, those of one step side by side, and the distance between steps.
    pub(super) a: (&'a [f32], usize),
    /// At most `MOST_GROUPS` groups of columns, and the distance between steps.
    pub(super) b: (&'a [&'a [T]], usize),
    /// Whether the sums begin at zero instead of at what is there.
    pub(super) fresh: bool,
}

impl<T: CacheNumber> Products<'_, T> {
    /// Writes the sums to rows that lie `distance` apart.
    pub(super) fn write(&self, sums: &mut [f32], distance: usize) {
        let Self {
            steps, rows, a, b, ..
        } = *self;
        if steps == 0 && !self.fresh || rows == 0 || b.0.is_empty() {
            return;
        }
        let reaches = |step: usize, width: usize| match steps {
            0 => 0,
            _ => (steps - 1) * step + width,
        };
        let holds = rows <= MOST_ROWS
            && b.0.len() <= MOST_GROUPS
            && a.0.len() >= reaches(a.1, rows)
            && b.0.iter().all(|it| it.len() >= reaches(b.1, COLUMNS))
            && sums.len() >= (rows - 1) * distance + b.0.len() * COLUMNS;
        assert!(holds, "products of {rows} rows, {steps} steps");
        #[cfg(target_arch = "x86_64")]
        if let Some(present) = avx512::Present::detect() {
            return avx512::products(present, self, sums, distance);
        }
        self.write_in_parts(sums, distance);
    }

    /// The same in loops that the compiler makes vectors of. Lengths are checked by the caller.
    fn write_in_parts(&self, sums: &mut [f32], distance: usize) {
        let Self {
            steps, rows, a, b, ..
        } = *self;
        for (group, b) in b.0.iter().enumerate() {
            let mut row = 0;
            while row < rows {
                let part = Part {
                    steps,
                    a: (&a.0[row.min(a.0.len())..], a.1),
                    b: (b, self.b.1),
                    fresh: self.fresh,
                };
                let sums = &mut sums[row * distance + group * COLUMNS..];
                row += match rows - row {
                    1 => part.write::<1>(sums, distance),
                    2 | 3 => part.write::<2>(sums, distance),
                    _ => part.write::<4>(sums, distance),
                };
            }
        }
    }
}

/// Some rows and one group.
struct Part<'a, T> {
    steps: usize,
    a: (&'a [f32], usize),
    b: (&'a [T], usize),
    fresh: bool,
}

impl<T: CacheNumber> Part<'_, T> {
    /// Returns the number of rows.
    fn write<const N: usize>(&self, sums: &mut [f32], distance: usize) -> usize {
        let mut own = [[0.0; COLUMNS]; 4];
        if !self.fresh {
            for (row, own) in own[..N].iter_mut().enumerate() {
                own.copy_from_slice(&sums[row * distance..][..COLUMNS]);
            }
        }
        rows::<N, T>(self, &mut own);
        for (row, own) in own[..N].iter().enumerate() {
            sums[row * distance..][..COLUMNS].copy_from_slice(own);
        }
        N
    }
}

simd_dispatch! {
    fn rows[const N: usize, T: CacheNumber][N, T](part: &Part<'_, T>, out: &mut [[f32; COLUMNS]; 4]) = rows_body;
}

#[inline(always)]
fn rows_body<const FMA: bool, const N: usize, T: CacheNumber>(
    part: &Part<'_, T>,
    out: &mut [[f32; COLUMNS]; 4],
) {
    let mut sums: [[f32; COLUMNS]; N] = std::array::from_fn(|row| out[row]);
    for step in 0..part.steps {
        let a = &part.a.0[step * part.a.1..][..N];
        let b = &part.b.0[step * part.b.1..][..COLUMNS];
        for row in 0..N {
            for column in 0..COLUMNS {
                sums[row][column] = mul_add::<FMA>(a[row], b[column].wide(), sums[row][column]);
            }
        }
    }
    out[..N].copy_from_slice(&sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + 13) % 1009) as f32 / 500.0 - 1.0)
            .collect()
    }

    #[test]
    fn every_sum_is_one_chain_in_order() {
        check::<f32>();
        check::<u16>();
    }

    fn check<T: CacheNumber>() {
        let a = numbers(MOST_ROWS * 40);
        let b: Vec<T> = numbers(5000).into_iter().map(T::nearest).collect();
        for rows in 1..=MOST_ROWS {
            for groups in 1..=MOST_GROUPS {
                for (steps, fresh) in [(0, true), (0, false), (1, true), (17, false), (33, true)] {
                    let parts: Vec<&[T]> = (0..groups).map(|group| &b[group * 1000..]).collect();
                    let distance = groups * COLUMNS + 3;
                    let before = numbers(rows * distance);
                    let mut got = before.clone();
                    let products = Products {
                        steps,
                        rows,
                        a: (&a, rows + 1),
                        b: (&parts, 20),
                        fresh,
                    };
                    products.write(&mut got, distance);
                    if steps > 0 || fresh {
                        let mut parts = before.clone();
                        products.write_in_parts(&mut parts, distance);
                        assert!(parts == got, "{rows} rows, {groups} groups, {steps} steps");
                    }
                    for (place, got) in got.iter().enumerate() {
                        let (row, column) = (place / distance, place % distance);
                        let mut sum = before[place];
                        if column < groups * COLUMNS {
                            let b = &parts[column / COLUMNS][column % COLUMNS..];
                            sum = (0..steps).fold(if fresh { 0.0 } else { sum }, |sum, step| {
                                a[step * (rows + 1) + row].mul_add(b[step * 20].wide(), sum)
                            });
                        }
                        let near = (got - sum).abs() < 1e-5;
                        assert!(
                            near,
                            "{rows} rows, {groups} groups, {steps} steps: {got} {sum}"
                        );
                        #[cfg(target_arch = "x86_64")]
                        if is_x86_feature_detected!("fma") {
                            assert_eq!(got.to_bits(), sum.to_bits(), "{rows} {groups} {steps}");
                        }
                    }
                }
            }
        }
    }
}

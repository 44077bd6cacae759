//! Which instruction set carries the work, found once per call at run time.

use super::ahead::Ahead;
use super::out::OutBlock;
use super::source::Source;
use super::{Form, PANEL, Precision, TILE_ROWS, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// An instruction set with kernels of its own. Invariant: a value other than `Portable` exists only where the
/// processor has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// AVX-512 F, BW, VL, VNNI and BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Present),
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Present),
    /// Plain Rust.
    Portable,
}

impl Tier {
    /// The best tier of this processor.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(present) = avx512::Present::detect() {
                return Self::Avx512(present);
            }
            if let Some(present) = avx2::Present::detect() {
                return Self::Avx2(present);
            }
        }
        Self::Portable
    }

    /// Every tier this processor can run, for tests.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let portable = std::iter::once(Self::Portable);
        #[cfg(target_arch = "x86_64")]
        let portable = {
            let wide = avx512::Present::detect();
            let forms = wide.into_iter().flat_map(|wide| [wide, wide.other_form()]);
            portable
                .chain(forms.map(Self::Avx512))
                .chain(avx2::Present::detect().map(Self::Avx2))
        };
        portable.collect()
    }

    /// How the left-hand operand is packed; the right-hand one always by `Precision::form`.
    pub(super) const fn row_form(self, precision: Precision) -> Form {
        match (self, precision) {
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512(present), Precision::Bf16) => present.row_form(),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(_), Precision::Bf16) => Form::Widened,
            (_, precision) => precision.form(),
        }
    }

    /// How many panels a tile of `rows` rows may span, so that few rows still keep the multipliers busy.
    pub(super) const fn most_panels(self, rows: usize) -> usize {
        match (self, rows) {
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512(_), 0..=2) => 4,
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512(_), 3..=4) => 2,
            _ => 1,
        }
    }

    /// Packs `source` into `[depth lanes][width]`, unused places zero.
    pub(super) fn pack(self, form: Form, source: Source<'_>, width: usize, to: &mut [u32]) {
        assert!(source.lanes() <= width, "more lanes than the panel is wide");
        assert_eq!(
            to.len(),
            form.lanes(source.depth()) * width,
            "a packed panel has the wrong length"
        );
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(present) => avx2::pack(present, form, source, width, to),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(present) => avx512::pack(present, form, source, width, to),
            Self::Portable => portable::pack(form, source, width, to),
        }
    }

    /// One register tile: `out = rows · panels`, or `+=`. The rows are packed as wide as `out` has rows, in the form
    /// that `row_form` names, and `out` spans 1, 2 or 4 panels, no more than `most_panels`.
    pub(super) fn tile(self, precision: Precision, tile: Tile<'_>, out: OutBlock<'_>) {
        let (rows, panels) = (out.rows(), out.columns().div_ceil(PANEL));
        assert!(
            (1..=TILE_ROWS).contains(&rows)
                && panels.is_power_of_two()
                && panels <= self.most_panels(rows),
            "a tile of {rows} rows by {panels} panels has no kernel"
        );
        let form = self.row_form(precision);
        let per_step = if form == Form::Widened { 2 } else { 1 };
        assert_eq!(
            tile.rows.len(),
            tile.depth * rows * per_step,
            "a tile's packed rows have the wrong length"
        );
        assert!(
            tile.panels.len() >= (panels - 1) * tile.panel_stride + tile.depth * PANEL,
            "a tile's packed panels are too short"
        );
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(present) => avx512::tile(present, form, tile, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(present) => avx2::tile(present, form, tile, out),
            Self::Portable => portable::tile(form, tile, out),
        }
    }
}

/// What one register tile multiplies.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// Packed rows of A, `[depth lanes][rows]`.
    pub(super) rows: &'a [u32],
    /// Packed panels of B, each `[depth][32]`.
    pub(super) panels: &'a [u32],
    /// Lanes from one panel to the next.
    pub(super) panel_stride: usize,
    /// Packed lanes of a panel along the inner dimension.
    pub(super) depth: usize,
    /// Add to what the output holds.
    pub(super) accumulate: bool,
    /// What is fetched meanwhile.
    pub(super) ahead: Ahead,
}

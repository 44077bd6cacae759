//! Which instruction set carries the work, found once per call at run time.

use super::out::OutBlock;
use super::source::Source;
use super::{PANEL, Precision, TILE_ROWS, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// An instruction set with kernels of its own. Invariant: a value other than `Portable` exists only where the
/// processor has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// AVX-512 F, BW, VL and BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Present),
    /// AVX2 and FMA.
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
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(avx512::Present::detect().map(Self::Avx512));
            all.extend(avx2::Present::detect().map(Self::Avx2));
        }
        all
    }

    /// Packs `source` into `[depth lanes][width]`, unused places zero.
    pub(super) fn pack(
        self,
        precision: Precision,
        source: Source<'_>,
        width: usize,
        to: &mut [u32],
    ) {
        assert!(source.lanes() <= width, "more lanes than the panel is wide");
        assert_eq!(
            to.len(),
            precision.lanes(source.depth()) * width,
            "a packed panel has the wrong length"
        );
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(present) => avx512::pack(present, precision, source, width, to),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => portable::pack(precision, source, width, to),
            Self::Portable => portable::pack(precision, source, width, to),
        }
    }

    /// One register tile: `out = rows · panel`, or `+=`. `rows` is packed as wide as `out` has rows.
    pub(super) fn tile(self, precision: Precision, tile: Tile<'_>, out: OutBlock<'_>) {
        let rows = out.rows();
        assert!(
            (1..=TILE_ROWS).contains(&rows) && (1..=PANEL).contains(&out.columns()),
            "a tile is at most {TILE_ROWS}x{PANEL}"
        );
        assert!(
            tile.rows.len() == tile.depth * rows && tile.panel.len() == tile.depth * PANEL,
            "a tile's packed operands have the wrong length"
        );
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(present) => avx512::tile(present, precision, tile, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(present) => avx2::tile(present, precision, tile, out),
            Self::Portable => portable::tile(precision, tile, out),
        }
    }
}

/// What one register tile multiplies.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// Packed rows of A, `[depth][rows]`.
    pub(super) rows: &'a [u32],
    /// A packed panel of B, `[depth][32]`.
    pub(super) panel: &'a [u32],
    /// Packed lanes along the inner dimension.
    pub(super) depth: usize,
    /// Add to what the output holds.
    pub(super) accumulate: bool,
}

//! The right-hand operand in panels of 32 columns, and how any operand's steps are read into them.

use rayon::prelude::*;

use super::driver::SERIAL_BELOW;
use super::source::Source;
use super::tier::Tier;
use super::{Form, PANEL, Precision};

/// Packed steps read at a time from an operand whose steps lie apart.
const STRIP: usize = 16;

/// The right-hand operand, packed as `[panel][depth lanes][32]`.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// The packed lanes.
    pub(super) lanes: &'a [u32],
    /// The inner dimension.
    pub(super) k: usize,
    /// What the lanes hold.
    pub(super) precision: Precision,
}

impl Columns<'_> {
    /// The panels from `index` on, from packed step `from` on.
    pub(super) fn panels(&self, index: usize, from: usize) -> &[u32] {
        &self.lanes[index * self.panel_len() + from * PANEL..]
    }

    /// As `panels`; nothing where there are no more.
    pub(super) fn rest(&self, index: usize, from: usize) -> &[u32] {
        let start = index * self.panel_len() + from * PANEL;
        self.lanes.get(start..).unwrap_or_default()
    }

    /// Packed steps of a panel.
    pub(super) const fn depth(&self) -> usize {
        self.precision.form().lanes(self.k)
    }

    /// Lanes of one panel.
    pub(super) const fn panel_len(&self) -> usize {
        self.depth() * PANEL
    }
}

/// Lanes that the packed columns of `source` take.
pub(super) const fn packed_len(source: Source<'_>, precision: Precision) -> usize {
    source.lanes().div_ceil(PANEL) * PANEL * precision.form().lanes(source.depth())
}

/// Packs all columns of `source` into panels.
pub(super) fn pack_columns(tier: Tier, precision: Precision, source: Source<'_>, to: &mut [u32]) {
    let form = precision.form();
    let depth = form.lanes(source.depth());
    if depth == 0 {
        return;
    }
    // A group of panels goes strip by strip, so that rows which hold many columns are read along.
    let panels = source.lanes().div_ceil(PANEL);
    let group = panels.div_ceil(4 * rayon::current_num_threads());
    let pack = |(index, lanes): (usize, &mut [u32])| {
        for (from, steps) in strips(source, depth) {
            for (panel, lanes) in lanes.chunks_exact_mut(depth * PANEL).enumerate() {
                let first = (index * group + panel) * PANEL;
                let count = (source.lanes() - first).min(PANEL);
                let part = packed_part(form, source, (first, count), (from, steps));
                tier.pack(
                    form,
                    part,
                    PANEL,
                    &mut lanes[from * PANEL..(from + steps) * PANEL],
                );
            }
        }
    };
    let groups = group * depth * PANEL;
    if to.len() < SERIAL_BELOW {
        to.chunks_mut(groups).enumerate().for_each(pack);
    } else {
        to.par_chunks_mut(groups).enumerate().for_each(pack);
    }
}

/// The `(first, count)` packed steps of one strip after the other; lanes that run along memory are one strip.
pub(super) fn strips(source: Source<'_>, depth: usize) -> impl Iterator<Item = (usize, usize)> {
    let strip = if source.depth_stride() == 1 {
        depth
    } else {
        STRIP
    };
    (0..depth)
        .step_by(strip)
        .map(move |from| (from, strip.min(depth - from)))
}

/// The part of `source` that the packed steps `(from, count)` of some lanes hold.
pub(super) fn packed_part<'a>(
    form: Form,
    source: Source<'a>,
    (lane, lanes): (usize, usize),
    (from, count): (usize, usize),
) -> Source<'a> {
    let first = from * form.per_lane();
    let steps = (count * form.per_lane()).min(source.depth() - first);
    source.part(lane, lanes, first, steps)
}

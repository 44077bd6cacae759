//! One operand as the packers see it: lanes (rows of A, columns of B) by depth (the inner dimension).

/// A checked strided view of lanes by depth; every element it names lies inside `data`.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    data: &'a [f32],
    lanes: usize,
    lane_stride: usize,
    depth: usize,
    depth_stride: usize,
}

impl<'a> Source<'a> {
    /// A view of `(count, stride)` lanes and `(count, stride)` steps of depth.
    pub(super) fn new(data: &'a [f32], lanes: (usize, usize), depth: (usize, usize)) -> Self {
        if lanes.0 > 0 && depth.0 > 0 {
            // Saturating: a product that wraps around must not pass for a small one.
            let last = (lanes.0 - 1)
                .saturating_mul(lanes.1)
                .saturating_add((depth.0 - 1).saturating_mul(depth.1));
            assert!(
                last < data.len(),
                "an operand of {}x{} with strides {} and {} reaches element {last}, but {} are given",
                lanes.0,
                depth.0,
                lanes.1,
                depth.1,
                data.len()
            );
        }
        Self {
            data,
            lanes: lanes.0,
            lane_stride: lanes.1,
            depth: depth.0,
            depth_stride: depth.1,
        }
    }

    /// The lanes `first..first + lanes` at the steps `from..from + depth`.
    pub(super) fn part(&self, first: usize, lanes: usize, from: usize, depth: usize) -> Self {
        let inside = first + lanes <= self.lanes && from + depth <= self.depth;
        assert!(inside, "a part of an operand lies outside it");
        let empty = lanes == 0 || depth == 0;
        let start = if empty {
            0
        } else {
            first * self.lane_stride + from * self.depth_stride
        };
        Self {
            data: &self.data[start..],
            lanes,
            depth,
            ..*self
        }
    }

    pub(super) const fn lanes(&self) -> usize {
        self.lanes
    }

    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) const fn lane_stride(&self) -> usize {
        self.lane_stride
    }

    pub(super) const fn depth_stride(&self) -> usize {
        self.depth_stride
    }

    /// The numbers, from the first element on.
    #[cfg(target_arch = "x86_64")]
    pub(super) const fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Copies the steps of the only lane.
    pub(super) fn copy_lane(&self, to: &mut [f32]) {
        if self.depth_stride == 1 {
            to.copy_from_slice(&self.data[..self.depth]);
        } else {
            for (step, to) in to.iter_mut().enumerate() {
                *to = self.at(0, step);
            }
        }
    }

    pub(super) fn at(&self, lane: usize, step: usize) -> f32 {
        self.data[lane * self.lane_stride + step * self.depth_stride]
    }
}

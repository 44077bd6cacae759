//! What a tile asks memory for while it multiplies: its share of what is multiplied next.
//!
//! Several passes of tiles go over each panel, and only the first of them would read it from memory, which would
//! idle during the others. A panel is therefore fetched in the passes over the one before it.

/// Bytes that a cache holds together.
const LINE: usize = 64;
/// Passes that fetch. More of them are not needed to be done in time.
const PASSES: usize = 2;
/// Rows up to which a lone pass fetches nothing: it waits for memory anyhow, and the processor looks ahead by itself.
const FEW_ROWS: usize = 6;

/// A stretch of memory, fetched into the second-level cache step by step. Fetching changes nothing and cannot fault.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    from: *const u8,
    lines: usize,
}

impl Ahead {
    /// The share of one of the `(pass, passes)` over a panel that `rows` rows meet. The `next` panel has as many steps
    /// as this one, of so many `lines` each. None but `here`, which the tile reads, where nothing is to be fetched.
    pub(super) fn share<T>(
        (here, next): (&[T], &[T]),
        (pass, passes): (usize, usize),
        rows: usize,
        (steps, lines): (usize, usize),
    ) -> Self {
        let lines = lines.div_ceil(passes.min(PASSES));
        let first = pass * steps * lines * LINE;
        let few = passes == 1 && rows <= FEW_ROWS;
        if few || pass >= PASSES || first >= size_of_val(next) {
            let from = here.as_ptr().cast();
            return Self { from, lines: 0 };
        }
        let from = next.as_ptr().cast::<u8>().wrapping_add(first);
        Self { from, lines }
    }

    /// Lines to fetch at each step of the tile.
    pub(super) const fn lines(&self) -> usize {
        self.lines
    }

    /// Where the line of that index lies, counted from the first one of this step.
    pub(super) const fn line(&self, index: usize) -> *const i8 {
        self.from.wrapping_add(index * LINE).cast()
    }

    /// Goes on to the next step.
    pub(super) const fn step(&mut self) {
        self.from = self.from.wrapping_add(self.lines * LINE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of `next` that all passes together fetch.
    fn fetched(passes: usize, rows: usize, steps: usize, lines: usize) -> Vec<usize> {
        let next = vec![0u8; steps * lines * LINE];
        let mut all = Vec::new();
        for pass in 0..passes {
            let mut ahead = Ahead::share((&[0u8; 1], &next), (pass, passes), rows, (steps, lines));
            for _ in 0..steps {
                let line = |index| ahead.line(index).addr().wrapping_sub(next.as_ptr().addr());
                all.extend((0..ahead.lines()).map(line));
                ahead.step();
            }
        }
        all
    }

    #[test]
    fn the_passes_over_a_panel_fetch_the_whole_of_the_next() {
        for (passes, rows) in [(1, 7), (1, 12), (2, 16), (3, 30), (8, 96)] {
            for (steps, lines) in [(1, 2), (448, 2), (28, 17), (28, 9)] {
                let mut all = fetched(passes, rows, steps, lines);
                all.sort_unstable();
                let expected: Vec<usize> = (0..steps * lines).map(|line| line * LINE).collect();
                assert!(
                    expected.iter().all(|line| all.binary_search(line).is_ok()),
                    "{passes} passes of {steps} steps of {lines} lines"
                );
            }
        }
    }

    #[test]
    fn few_rows_and_the_end_fetch_nothing() {
        assert!(fetched(1, FEW_ROWS, 10, 2).is_empty());
        let here = [0u8; LINE];
        let ahead = Ahead::share((&here, &[]), (0, 2), 16, (10, 2));
        assert_eq!((ahead.lines(), ahead.line(0)), (0, here.as_ptr().cast()));
    }
}

//! How a thread waits that expects its turn in a moment.

/// Looks before a waiting thread lets others have its core, each a few nanoseconds.
const LOOKS: u32 = 4_000;
/// Times that it lets them before it counts as patient enough, each about a microsecond.
const YIELDS: u32 = 100;

/// Looks again and again, and after some time lets others have the core between two looks.
#[derive(Default)]
pub(super) struct Patience {
    looks: u32,
    yields: u32,
}

impl Patience {
    pub(super) fn wait(&mut self) {
        if self.looks < LOOKS {
            self.looks += 1;
            std::hint::spin_loop();
        } else {
            self.yields = self.yields.saturating_add(1);
            std::thread::yield_now();
        }
    }

    /// Whether it has waited so long that sleep is due.
    pub(super) fn is_over(&self) -> bool {
        self.yields >= YIELDS
    }
}

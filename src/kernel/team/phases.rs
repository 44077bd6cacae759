//! The phases of one pass: tasks are claimed one by one, and a phase ends when all are done.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::patience::Patience;

/// Where a pass is.
pub(super) struct Phases {
    members: usize,
    /// The phase in the upper half, its next unclaimed task in the lower.
    claim: AtomicU64,
    /// Tasks of the phase that are done.
    done: AtomicU32,
    torn: AtomicBool,
}

/// Why a member was let go: another one fell.
pub(super) struct Torn;

/// One thread of a team within one pass.
pub struct Member<'a> {
    phases: &'a Phases,
    /// The phase that it comes to next.
    phase: Cell<u32>,
}

impl Phases {
    pub(super) fn new(members: usize) -> Self {
        Self {
            members,
            claim: AtomicU64::new(0),
            done: AtomicU32::new(0),
            torn: AtomicBool::new(false),
        }
    }

    /// Goes to the start of a pass. Nobody may be inside.
    pub(super) fn begin(&self) {
        self.claim.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.torn.store(false, Ordering::Relaxed);
    }

    /// Lets everyone go who waits or comes to wait: they unwind.
    pub(super) fn tear(&self) {
        self.torn.store(true, Ordering::Release);
    }

    /// Someone who walks through from the first phase.
    pub(super) fn member(&self) -> Member<'_> {
        Member {
            phases: self,
            phase: Cell::new(0),
        }
    }
}

impl Member<'_> {
    /// Members of the team, some of which may be late.
    pub(super) fn count(&self) -> usize {
        self.phases.members
    }

    /// How many tasks to make of `n` things, `each` for every member where there are enough.
    pub(super) fn tasks(&self, n: usize, each: usize) -> usize {
        n.min(each * self.count())
    }

    /// As `tasks`, of nearly the same number but of the same size, where there is such a number: a
    /// few things that do not share out evenly keep members waiting.
    pub(super) fn even_tasks(&self, n: usize, each: usize) -> usize {
        even_tasks(n, self.tasks(n, each), self.count())
    }

    /// Does as many of the `tasks` as it can get, and returns when all are done. What they wrote
    /// may be read then.
    pub(super) fn phase(&self, tasks: usize, mut work: impl FnMut(usize)) {
        let tasks = tasks as u64;
        if self.count() == 1 {
            (0..tasks).for_each(|task| work(task as usize));
            return;
        }
        if tasks == 0 {
            return;
        }
        let Phases {
            claim, done, torn, ..
        } = self.phases;
        let phase = u64::from(self.phase.replace(self.phase.get() + 1));
        let mut patience = Patience::default();
        loop {
            let seen = claim.load(Ordering::Acquire);
            if seen >> 32 != phase {
                return; // it was over before this member came
            }
            let task = seen & u64::from(u32::MAX);
            if task < tasks {
                let order = (Ordering::AcqRel, Ordering::Relaxed);
                if claim
                    .compare_exchange_weak(seen, seen + 1, order.0, order.1)
                    .is_err()
                {
                    continue;
                }
                work(task as usize);
                if u64::from(done.fetch_add(1, Ordering::AcqRel)) + 1 == tasks {
                    done.store(0, Ordering::Relaxed);
                    claim.store((phase + 1) << 32, Ordering::Release);
                    return;
                }
            } else if torn.load(Ordering::Acquire) {
                resume_unwind(Box::new(Torn));
            } else {
                patience.wait();
            }
        }
    }
}

/// Things of a task from which on one more or less does not matter.
const MANY: usize = 16;

/// The number nearest to `tasks`, from its half to its double, into which `n` things share out
/// evenly and then evenly among the members; `tasks` where there is none.
fn even_tasks(n: usize, tasks: usize, members: usize) -> usize {
    if tasks == 0 || n / tasks >= MANY {
        return tasks;
    }
    (tasks.div_ceil(2)..=(2 * tasks).min(n))
        .filter(|count| n.is_multiple_of(*count) && count.is_multiple_of(members))
        .min_by_key(|count| count.abs_diff(tasks))
        .unwrap_or(tasks)
}

#[cfg(test)]
mod tests {
    use super::even_tasks;

    #[test]
    fn tasks_are_of_one_size_where_that_can_be() {
        // (things, tasks wanted, members) to tasks
        for ((n, tasks, members), expected) in [
            ((28, 8, 2), 4),
            ((36, 8, 2), 6),
            ((30, 8, 2), 6),
            ((18, 8, 2), 6),
            ((28, 28, 2), 28),
            ((304, 8, 2), 8),
            ((4748, 8, 2), 8),
            ((29, 8, 2), 8),
            ((1, 1, 2), 1),
            ((0, 0, 2), 0),
        ] {
            assert_eq!(even_tasks(n, tasks, members), expected, "{n} in {tasks}");
        }
    }
}

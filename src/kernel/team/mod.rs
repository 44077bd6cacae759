//! Threads that walk through one pass together, phase by phase, without handing tasks around.
//!
//! A pass through a decoder is a few hundred short phases. The tasks of a phase are claimed one by
//! one by whoever is there, and the next phase begins when all of them are done: between two phases
//! lies about a microsecond, where a scheduler that wakes threads for each of them would cost more
//! than the work. A thread that the system lets wait holds up nobody but the task it is at.

mod attend;
mod cap;
mod door;
mod gate;
mod norm;
mod patience;
mod phases;
mod project;
mod rows;

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use attend::{CacheNumber, CachedBlocks, Kept, Placed, Tiles, Turn, attend, place};
pub use cap::cap;
pub use gate::gate;
pub use norm::{Branch, NormTensor, embed, join, keep};
pub use project::{Delta, LowRank, Projection, lower, project};
pub use rows::Rows;

use door::Door;
use patience::Patience;
use phases::{Phases, Torn};

pub use phases::Member;

/// What every member of a team runs.
type Work<'a> = dyn Fn(&Member<'_>) + Sync + 'a;

/// Threads that wait for passes to walk through. The caller is one of them.
///
/// They look for work for some microseconds after each pass and then sleep, so that an idle team
/// costs nothing.
pub struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Counts passes; its change is the sign to come.
    pass: AtomicU32,
    door: Door,
    /// The pass to walk through. None: go home.
    work: Mutex<Option<Job>>,
    asleep: Vec<AtomicBool>,
    phases: Phases,
    failure: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A borrowed closure whose lifetime is kept by `Team::walk`, which returns after its last use.
#[derive(Clone, Copy)]
struct Job(*const Work<'static>);

// SAFETY: what it points to is `Sync`, and `Team::walk` keeps it alive while threads hold it.
unsafe impl Send for Job {}

impl Team {
    /// A team of so many members, at least 1. Fewer if the system has no more threads.
    #[must_use]
    pub fn new(members: usize) -> Self {
        let wanted = members.max(1) - 1;
        // Threads start once it is known how many there are: the barrier counts them.
        let mut ready = Vec::new();
        for _ in 0..wanted {
            let (tell, told) = std::sync::mpsc::sync_channel::<(Arc<Shared>, usize)>(1);
            let thread = std::thread::Builder::new().name("team".into());
            let spawned = thread.spawn(move || {
                if let Ok((shared, place)) = told.recv() {
                    serve(&shared, place);
                }
            });
            match spawned {
                Ok(thread) => ready.push((tell, thread)),
                Err(error) => {
                    tracing::warn!(%error, "the system has no more threads, going on with fewer");
                    break;
                }
            }
        }
        let shared = Arc::new(Shared {
            pass: AtomicU32::new(0),
            door: Door::default(),
            work: Mutex::new(None),
            asleep: ready.iter().map(|_| AtomicBool::new(false)).collect(),
            phases: Phases::new(ready.len() + 1),
            failure: Mutex::new(None),
        });
        let threads = ready
            .into_iter()
            .enumerate()
            .map(|(place, (tell, thread))| {
                // It waits for just this.
                let _ = tell.send((Arc::clone(&shared), place));
                thread
            });
        Self {
            threads: threads.collect(),
            shared,
        }
    }

    /// Members, the caller among them.
    #[must_use]
    pub fn members(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `work` on every member that is there in time, and returns when all phases of it are
    /// done and no member is in it any more.
    ///
    /// # Safety
    /// Every member goes through the same phases of this module in the same order, with the same
    /// buffers: whatever one phase writes, only the next may read.
    ///
    /// # Panics
    /// If `work` panics on any member; the others are let go.
    pub unsafe fn walk(&mut self, work: &Work<'_>) {
        let shared = &*self.shared;
        shared.phases.begin();
        // SAFETY: only the lifetime changes. Threads use it between entering and leaving, and this
        // function lets nobody in and awaits that all have left before it returns.
        let job =
            Job(unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) });
        self.begin(Some(job));
        let own = catch_unwind(AssertUnwindSafe(|| work(&shared.phases.member())));
        if own.is_err() {
            shared.phases.tear();
        }
        shared.door.close();
        let mut patience = Patience::default();
        while shared.door.is_anybody_inside() {
            patience.wait();
        }
        let other = shared
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match (other, own) {
            (Some(failure), _) | (None, Err(failure)) => resume_unwind(failure),
            (None, Ok(())) => {}
        }
    }

    fn begin(&self, job: Option<Job>) {
        let shared = &*self.shared;
        *shared.work.lock().unwrap_or_else(PoisonError::into_inner) = job;
        // Nobody is inside: the last pass awaited that.
        let pass = shared.pass.load(Ordering::Relaxed).wrapping_add(1);
        shared.door.open(pass);
        // Sequentially consistent, as is a sleeper's look: either it sees this, or it is seen.
        shared.pass.store(pass, Ordering::SeqCst);
        for (asleep, thread) in shared.asleep.iter().zip(&self.threads) {
            if asleep.swap(false, Ordering::SeqCst) {
                thread.thread().unpark();
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.begin(None);
        for thread in self.threads.drain(..) {
            // A thread's own failures were caught, and told by `walk`.
            let _ = thread.join();
        }
    }
}

/// A thread's life: wait for a pass, walk through it, wait again.
fn serve(shared: &Shared, place: usize) {
    let mut seen = 0;
    loop {
        seen = await_pass(shared, place, seen);
        if !shared.door.enter(seen) {
            continue;
        }
        let job = *shared.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Job(work)) = job else {
            shared.door.leave();
            return;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: `Team::walk` keeps it alive while anybody is inside.
            let work = unsafe { &*work };
            work(&shared.phases.member());
        }));
        if let Err(failure) = outcome {
            if !failure.is::<Torn>() {
                let mut first = shared
                    .failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(failure);
            }
            shared.phases.tear();
        }
        shared.door.leave();
    }
}

/// Waits until the pass is another than `seen`: awake for a while, then asleep. Returns its number.
fn await_pass(shared: &Shared, place: usize, seen: u32) -> u32 {
    let mut patience = Patience::default();
    loop {
        let pass = shared.pass.load(Ordering::Acquire);
        if pass != seen {
            return pass;
        }
        if !patience.is_over() {
            patience.wait();
            continue;
        }
        shared.asleep[place].store(true, Ordering::SeqCst);
        if shared.pass.load(Ordering::SeqCst) == seen {
            std::thread::park();
        }
        shared.asleep[place].store(false, Ordering::SeqCst);
    }
}

/// The `part`-th of `parts` shares of `n` things that cost the same.
fn share(n: usize, part: usize, parts: usize) -> Range<usize> {
    part * n / parts..(part + 1) * n / parts
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};

    use super::*;

    #[test]
    fn every_task_of_every_phase_is_done_once_and_before_the_next_phase() {
        for members in 1..5 {
            let mut team = Team::new(members);
            for n in [1, 3, 64, 1000] {
                let cells: Vec<AtomicU64> = (0..n).map(|_| AtomicU64::new(0)).collect();
                let work = |member: &Member<'_>| {
                    for phase in 0..50 {
                        member.phase(n, |task| {
                            cells[task].fetch_add(1, Ordering::Relaxed);
                        });
                        member.phase(0, |_| unreachable!("a phase without tasks"));
                        member.phase(2, |_| {
                            let all = cells
                                .iter()
                                .all(|it| it.load(Ordering::Relaxed) == phase + 1);
                            assert!(all, "phase {phase} of {members} members");
                        });
                    }
                };
                // SAFETY: nothing but atomics is shared.
                unsafe { team.walk(&work) };
                assert!(cells.iter().all(|it| it.load(Ordering::Relaxed) == 50));
            }
        }
    }

    #[test]
    fn a_panic_in_any_task_ends_the_pass_and_leaves_the_team_whole() {
        let mut team = Team::new(3);
        for guilty in 0..30 {
            let work = |member: &Member<'_>| {
                member.phase(10, |_| ());
                member.phase(30, |task| assert!(task != guilty, "task {guilty} fell"));
                member.phase(10, |_| ());
            };
            // SAFETY: no buffer is shared.
            let fallen = catch_unwind(AssertUnwindSafe(|| unsafe { team.walk(&work) }));
            let failure = fallen.unwrap_err();
            let told = failure.downcast_ref::<String>().unwrap();
            assert!(told.contains(&format!("task {guilty} fell")), "{told}");
            let count = AtomicUsize::new(0);
            let work = |member: &Member<'_>| {
                member.phase(7, |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            };
            // SAFETY: no buffer is shared.
            unsafe { team.walk(&work) };
            assert_eq!(count.into_inner(), 7);
        }
    }
}

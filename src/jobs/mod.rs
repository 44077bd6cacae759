//! Work that outlives a request and a crash: taken up under a lease, told of as it goes, given up
//! when the lease is lost.
//!
//! Knows nothing of what the work is: a [`JobRunner`] is given a [`Job`] that does it. A lease is
//! prolonged by heartbeats, and each take-up has a new number, the fencing token of every write:
//! a worker that slept past its lease changes nothing any more.

mod error;
mod id;
mod lease;
mod progress;
mod runner;

pub use error::JobTrouble;
pub use id::{JobId, JobStatus};
pub use lease::{Lease, now_ms};
pub use progress::{CheckpointNews, JobProgress, StepNews};
pub use runner::{Job, JobEnd, JobRunner, JobTask, RunnerSettings};

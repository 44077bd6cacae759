//! Training jobs from the store to the finished checkpoint, in process and in worker processes.

pub(crate) mod bench;
mod dpo;
mod lifecycle;
mod mended;
mod process;
mod texts;

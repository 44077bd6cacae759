//! What is true of each subject, and how an answer stands against it.
//!
//! The table is built from question rows whose long answers state facts one sentence at a time.
//! Two sentences state the same fact when their words agree once the subject's name (or the
//! `there` or `its` in its place) and function words are dropped: "About 48 million people live
//! in Algeria." and "About 48 million people live there.".

mod row;
mod sentence;
mod table;
mod verdict;

pub use table::{FactSource, FactTable};
pub use verdict::FactVerdict;

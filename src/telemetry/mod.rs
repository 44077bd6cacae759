//! What the program tells about itself in numbers: every metric's name, how it is counted, how a
//! scrape is written.
//!
//! Whoever does something counts it in an instrument of its own; `GET /metrics` gathers them on one
//! [`Page`]. There is no registry and no global. Labels are words of a closed list, never a
//! caller's: no prompt, no user, no raw weight.

mod instruments;
pub mod names;
mod page;

pub use instruments::{Counter, Gauge, Histogram, Tally};
pub use page::{MEDIA_TYPE, Page};

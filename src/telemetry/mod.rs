//! What the program tells about itself in numbers: every metric's name, how it is counted, how a
//! scrape is written.
//!
//! Whoever does something counts it in an instrument of its own; `GET /metrics` gathers them on one
//! [`Page`]. There is no registry and no global. Labels are words of a closed list, never a
//! caller's: no prompt, no user, no raw weight. [`Traces`] tell of single requests, where a
//! collector is named.

mod instruments;
pub mod names;
mod page;
mod timeline;
mod traces;

pub use instruments::{Counter, Gauge, Histogram, Tally};
pub use page::{MEDIA_TYPE, Page};
pub use timeline::{AnswerTimes, Timeline};
pub use traces::{CallerSpan, RequestTrace, Traces, TracesError};

//! Rewards that another process computes: reward servers, and chat models asked to grade.
//!
//! Where to ask comes from a job's configuration alone. A service that fails, or answers otherwise
//! than its shape says, is an error after the attempts it has: never a 0.

mod call;
mod client;
mod error;
mod grade;
mod http;
mod judge;
mod reply;
mod shape;
mod transcript;

pub use call::{CallSettings, KEY_PREFIX};
pub use error::ServiceError;
pub use http::{HttpConfig, HttpReward};
pub use judge::{JudgeConfig, JudgeMode, JudgeReward};
pub use shape::{HttpShape, LabelChoice};
pub use transcript::Transcript;

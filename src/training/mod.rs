//! The training loops: supervised, reward model, MO-ODPO. Knows nothing of HTTP or stores.

pub mod data;
mod error;
pub mod loss;
pub mod pairs;

pub use error::TrainingError;

//! The training loops: supervised, reward model, MO-ODPO. Knows nothing of HTTP or stores.

pub mod data;
mod error;
pub mod loss;
pub mod observe;
pub mod pairs;
pub mod seeds;
pub mod state;

pub use error::TrainingError;

//! Gathers settings: defaults < file < environment < flags.

mod error;
mod gather;
mod layer;
mod settings;

pub use error::ConfigError;
pub use gather::{Gathered, Source};
pub use layer::{FineTuningMode, LogFormat, SettingsLayer};
pub use settings::Settings;

//! Gathers settings: defaults < file < environment < flags.

mod settings;

pub use settings::{ConfigError, FineTuningMode, LogFormat, Settings, SettingsLayer};

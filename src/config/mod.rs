//! Gathers settings: defaults < file < environment < flags.

mod settings;

pub use settings::{ConfigError, LogFormat, Settings, SettingsLayer};

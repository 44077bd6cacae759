//! Why settings cannot be used.

use std::path::PathBuf;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file names an unknown setting, or gives one a wrong value.
    #[error("the settings file {} cannot be used", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// A value that is none.
    #[error("a setting has a value that cannot be used")]
    Value(#[source] toml::de::Error),
    /// A value that TOML cannot hold: a number beyond 2^63, a path that is no text.
    #[error("a setting cannot be written as TOML")]
    Unwritable(#[source] toml::ser::Error),
    /// A bound under which nobody could be served.
    #[error("`{key}` is {value}, expected at least {least}")]
    TooLow {
        /// The setting.
        key: &'static str,
        /// What it is.
        value: u64,
        /// The least it may be.
        least: u64,
    },
}

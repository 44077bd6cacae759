//! Puts the sources of settings over each other, and remembers which one each came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use toml::{Table, Value};

use super::{ConfigError, Settings, SettingsLayer};

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The TOML file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Settings, and where each came from.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The settings in effect.
    pub settings: Settings,
    sources: BTreeMap<String, Source>,
}

/// One setting's names.
struct Names {
    key: String,
    flag: String,
    variable: String,
}

/// Every setting, in the order of the flags.
fn all() -> Vec<Names> {
    let flags = SettingsLayer::augment_args(clap::Command::new("serve"));
    let names = flags.get_arguments().map(|flag| Names {
        key: flag.get_id().to_string(),
        flag: format!("--{}", flag.get_long().unwrap_or_default()),
        variable: flag
            .get_env()
            .map_or(String::new(), |name| name.to_string_lossy().into_owned()),
    });
    names.collect()
}

impl Gathered {
    /// Puts what was `given` on the command line and in the environment over a file, and that over
    /// the defaults. `is_flag` tells of a key whether the command line gave it.
    ///
    /// # Errors
    /// A value that cannot be.
    pub fn new(
        file: Option<(&Path, SettingsLayer)>,
        given: &SettingsLayer,
        is_flag: impl Fn(&str) -> bool,
    ) -> Result<Self, ConfigError> {
        let mut sources = BTreeMap::new();
        let mut merged = Table::new();
        if let Some((path, layer)) = &file {
            for (key, value) in table(layer)? {
                sources.insert(key.clone(), Source::File(path.to_path_buf()));
                merged.insert(key, value);
            }
        }
        let mut given = table(given)?;
        for Names {
            key,
            flag,
            variable,
        } in all()
        {
            let Some(value) = given.remove(&key) else {
                continue;
            };
            let source = match is_flag(&key) {
                true => Source::Flag(flag),
                false => Source::Variable(variable),
            };
            sources.insert(key.clone(), source);
            merged.insert(key, value);
        }
        let settings = Settings::deserialize(Value::Table(merged)).map_err(ConfigError::Value)?;
        settings.check()?;
        Ok(Self { settings, sources })
    }

    /// The settings as a TOML file, each with where it came from; secrets are masked.
    ///
    /// # Errors
    /// A value that TOML cannot hold.
    pub fn render(&self) -> Result<String, ConfigError> {
        let masked = Settings {
            database_url: self.settings.database_url.as_deref().map(masked),
            otlp_endpoint: self.settings.otlp_endpoint.as_deref().map(masked),
            ..self.settings.clone()
        };
        let mut values = Table::try_from(&masked).map_err(ConfigError::Unwritable)?;
        let mut text = String::new();
        for Names { key, .. } in all() {
            let source = self.sources.get(&key).unwrap_or(&Source::Default);
            let line = match values.remove(&key) {
                Some(value) => format!("{key} = {value}  # {source}\n"),
                None => format!("# {key} is not set  # {source}\n"),
            };
            text.push_str(&line);
        }
        Ok(text)
    }
}

/// What a layer says.
fn table(layer: &SettingsLayer) -> Result<Table, ConfigError> {
    Table::try_from(layer).map_err(ConfigError::Unwritable)
}

/// An address without who may use it: user, password and options may all be secrets.
fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "***".to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://***@{place}"),
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> SettingsLayer {
        toml::from_str(text).expect("sound")
    }

    fn gathered(file: &str, given: &str) -> Result<Gathered, ConfigError> {
        let path = Path::new("steersman.toml");
        Gathered::new(Some((path, layer(file))), &layer(given), |key| {
            key == "addr"
        })
    }

    #[test]
    fn a_stronger_source_wins_and_the_defaults_fill_the_rest() {
        let file = "addr = '127.0.0.1:1'\nmax_sequences = 3\nmax_body_bytes = 4096";
        let given = "addr = '127.0.0.1:2'\nmax_sequences = 4";
        let settings = gathered(file, given).expect("sound").settings;
        assert_eq!(settings.addr.port(), 2);
        assert_eq!(settings.service().engine.max_sequences, 4);
        assert_eq!(settings.http().max_body_bytes, 4096);
        assert_eq!(settings.model, PathBuf::from("models/demo"));
        let untouched = gathered("", "").expect("sound").settings;
        assert_eq!(untouched, Settings::default());
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = toml::from_str::<SettingsLayer>("max_sequenzes = 3").expect_err("unknown");
        assert!(error.to_string().contains("max_sequenzes"), "{error}");
    }

    #[test]
    fn every_flag_has_a_variable_of_its_name_and_a_setting() {
        let defaults = Table::try_from(Settings::default()).expect("sound");
        for Names {
            key,
            flag,
            variable,
        } in all()
        {
            assert_eq!(flag, format!("--{}", key.replace('_', "-")));
            assert_eq!(variable, format!("STEERSMAN_{}", key.to_uppercase()));
            let unset = [
                "database_url",
                "registry",
                "kv_tokens",
                "max_batch_tokens",
                "admin_addr",
                "worker_threads",
                "mlflow_url",
                "otlp_endpoint",
            ];
            let optional = unset.contains(&key.as_str());
            assert_eq!(defaults.contains_key(&key), !optional, "{key}");
        }
    }

    #[test]
    fn the_settings_are_printed_with_their_sources_and_without_secrets() {
        let file = "log = 'warn'\ndatabase_url = 'postgres://ada:hunter2@db.example/app?x=hunter2'";
        let given = "addr = '127.0.0.1:9'\nmax_connections = 8";
        let text = gathered(file, given)
            .expect("sound")
            .render()
            .expect("prints");
        for line in [
            "addr = \"127.0.0.1:9\"  # flag --addr",
            "max_connections = 8  # environment STEERSMAN_MAX_CONNECTIONS",
            "log = \"warn\"  # file steersman.toml",
            "log_format = \"text\"  # default",
            "# kv_tokens is not set  # default",
            "database_url = \"postgres://***@db.example/app\"  # file steersman.toml",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
        }
        assert!(!text.contains("hunter2") && !text.contains("ada"), "{text}");
        toml::from_str::<SettingsLayer>(&text).expect("what is printed can be read");
    }

    #[test]
    fn bounds_that_serve_nobody_are_refused() {
        let error = gathered("max_connections = 0", "").expect_err("nobody");
        let text = error.to_string();
        assert!(
            text.contains("max_connections") && text.contains('0'),
            "{text}"
        );
    }
}

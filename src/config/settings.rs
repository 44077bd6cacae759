//! The server's settings, and the one struct that is both its flags and its TOML file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::engine::EngineConfig;
use crate::service::ServiceSettings;
use crate::store::StoreSettings;

/// Settings of one source; what it does not name is left to a weaker one. clap fills it from
/// flags and, weaker than these, from the environment; serde fills it from the TOML file.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsLayer {
    /// Folder of the model to serve: config.json, tokenizer.json, safetensors, and where it is
    /// steerable steering.json or policies/ [default: models/demo]
    #[arg(long, env = "STEERSMAN_MODEL", value_name = "DIR")]
    pub model: Option<PathBuf>,

    /// Address to listen on; port 0 takes a free one. Without keys only loopback is allowed: on
    /// any other address everybody who reaches it could use the model [default: 127.0.0.1:8080]
    #[arg(long, env = "STEERSMAN_ADDR", value_name = "HOST:PORT")]
    pub addr: Option<SocketAddr>,

    /// Folder of the server's state: SQLite with profiles, keys and jobs, and the jobs' files and
    /// checkpoints, also beside PostgreSQL [default: steersman-data]
    #[arg(long, env = "STEERSMAN_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// PostgreSQL instead of SQLite: postgres://USER:PASSWORD@HOST/DATABASE. Several servers can
    /// share one; SQLite needs no other process. The environment variable hides the password from
    /// other users of the machine [default: none]
    #[arg(
        long,
        env = "STEERSMAN_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,

    /// Who runs training jobs: `local` takes them and starts a worker process beside the server
    /// while there is one to do, `remote` takes them and leaves them to `steersman worker`
    /// elsewhere, `off` takes none [default: local]
    #[arg(long, env = "STEERSMAN_FINE_TUNING", value_name = "MODE")]
    pub fine_tuning: Option<FineTuningMode>,

    /// Address of a listener of their own for the routes of files and training jobs; without it
    /// the public listener has them too, for keys with the scope admin [default: none]
    #[arg(long, env = "STEERSMAN_ADMIN_ADDR", value_name = "HOST:PORT")]
    pub admin_addr: Option<SocketAddr>,

    /// Threads of the worker process that the server starts. More train faster and leave less of
    /// the machine to answers; it runs at low priority (nice 10) in any case [default: half of the
    /// machine's]
    #[arg(long, env = "STEERSMAN_WORKER_THREADS", value_name = "N")]
    pub worker_threads: Option<usize>,

    /// Answers generated side by side. More raise throughput and cost memory (each has its own
    /// cache) and speed of the single answer; further requests wait [default: 64]
    #[arg(long, env = "STEERSMAN_MAX_SEQUENCES", value_name = "N")]
    pub max_sequences: Option<usize>,

    /// Tokens computed in one iteration. More finish long prompts sooner, fewer keep running
    /// streams smooth while a long prompt comes in [default: 512]
    #[arg(long, env = "STEERSMAN_MAX_BATCH_TOKENS", value_name = "N")]
    pub max_batch_tokens: Option<usize>,

    /// Requests that may wait beyond those that run. A long queue answers late, a short one
    /// refuses early, with 429 [default: 256]
    #[arg(long, env = "STEERSMAN_QUEUE_CAPACITY", value_name = "N")]
    pub queue_capacity: Option<usize>,

    /// Tokens of an answer where neither request nor checkpoint states a number. Higher risks
    /// long answers nobody asked for, lower cuts answers off [default: 256]
    #[arg(long, env = "STEERSMAN_DEFAULT_MAX_TOKENS", value_name = "N")]
    pub default_max_tokens: Option<usize>,

    /// Seconds that running answers get to finish after SIGTERM, before they are cut with an
    /// error event. Keep it below the time after which your supervisor kills [default: 30]
    #[arg(long, env = "STEERSMAN_DRAIN_SECONDS", value_name = "N")]
    pub drain_seconds: Option<u64>,

    /// How log lines are written to standard error: `text` for people, `json` for collectors
    /// [default: text]
    #[arg(long, env = "STEERSMAN_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or per module as in
    /// `info,steersman::engine=debug`. Prompts and answers never are [default: info]
    #[arg(long, env = "STEERSMAN_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// Who runs training jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FineTuningMode {
    /// A worker process beside the server.
    Local,
    /// Workers that somebody else starts.
    Remote,
    /// Nobody: jobs are not taken.
    Off,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings in effect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The model folder.
    pub model: PathBuf,
    /// Where to listen.
    pub addr: SocketAddr,
    /// What the service is told.
    pub service: ServiceSettings,
    /// Where the state lies.
    pub store: StoreSettings,
    /// Who runs training jobs.
    pub fine_tuning: FineTuningMode,
    /// Where the admin routes listen by themselves.
    pub admin_addr: Option<SocketAddr>,
    /// Threads of the worker process.
    pub worker_threads: Option<usize>,
    /// Seconds that running answers get to finish.
    pub drain_seconds: u64,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
}

/// A settings file that cannot be used.
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
}

impl SettingsLayer {
    /// Reads a TOML file. Its keys are the flags' names with `_` for `-`.
    ///
    /// # Errors
    /// It cannot be read, or holds a key or value that is none.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Toml {
            path: path.to_owned(),
            source,
        })
    }

    /// This layer, with a weaker one where it says nothing.
    #[must_use]
    pub fn over(self, weaker: Self) -> Self {
        Self {
            model: self.model.or(weaker.model),
            addr: self.addr.or(weaker.addr),
            data_dir: self.data_dir.or(weaker.data_dir),
            database_url: self.database_url.or(weaker.database_url),
            fine_tuning: self.fine_tuning.or(weaker.fine_tuning),
            admin_addr: self.admin_addr.or(weaker.admin_addr),
            worker_threads: self.worker_threads.or(weaker.worker_threads),
            max_sequences: self.max_sequences.or(weaker.max_sequences),
            max_batch_tokens: self.max_batch_tokens.or(weaker.max_batch_tokens),
            queue_capacity: self.queue_capacity.or(weaker.queue_capacity),
            default_max_tokens: self.default_max_tokens.or(weaker.default_max_tokens),
            drain_seconds: self.drain_seconds.or(weaker.drain_seconds),
            log_format: self.log_format.or(weaker.log_format),
            log: self.log.or(weaker.log),
        }
    }

    /// The settings in effect: this layer over the defaults.
    pub fn settle(self) -> Settings {
        let engine = EngineConfig::default();
        let service = ServiceSettings::default();
        Settings {
            model: self.model.unwrap_or_else(|| PathBuf::from("models/demo")),
            addr: self
                .addr
                .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            service: ServiceSettings {
                engine: EngineConfig {
                    max_sequences: self.max_sequences.unwrap_or(engine.max_sequences),
                    max_batch_tokens: self.max_batch_tokens.unwrap_or(engine.max_batch_tokens),
                    queue_capacity: self.queue_capacity.unwrap_or(engine.queue_capacity),
                    ..engine
                },
                default_max_tokens: self
                    .default_max_tokens
                    .unwrap_or(service.default_max_tokens),
            },
            store: StoreSettings {
                data_dir: self
                    .data_dir
                    .unwrap_or_else(|| StoreSettings::default().data_dir),
                database_url: self.database_url,
            },
            fine_tuning: self.fine_tuning.unwrap_or(FineTuningMode::Local),
            admin_addr: self.admin_addr,
            worker_threads: self.worker_threads,
            drain_seconds: self.drain_seconds.unwrap_or(30),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
            log: self.log.unwrap_or_else(|| "info".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Result<SettingsLayer, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_stronger_layer_wins_and_the_defaults_fill_the_rest() {
        let file = layer("addr = '127.0.0.1:1'\nmax_sequences = 3").expect("sound");
        let flags = layer("addr = '127.0.0.1:2'").expect("sound");
        let settings = flags.over(file).settle();
        assert_eq!(settings.addr.port(), 2);
        assert_eq!(settings.service.engine.max_sequences, 3);
        assert_eq!(settings.model, PathBuf::from("models/demo"));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = layer("max_sequenzes = 3").expect_err("unknown").to_string();
        assert!(error.contains("max_sequenzes"), "{error}");
    }
}

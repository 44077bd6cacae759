//! The settings in effect, and what each part of the server gets of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, FineTuningMode, LogFormat};
use crate::engine::EngineConfig;
use crate::http::{HttpSettings, ListenerSettings};
use crate::service::{Device, Dtype, ServiceSettings};
use crate::store::StoreSettings;

/// The settings in effect. `SettingsLayer` says what each means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each means what the flag of its name says")]
pub struct Settings {
    pub model: PathBuf,
    pub dtype: Dtype,
    pub device: Device,
    pub addr: SocketAddr,
    pub data_dir: PathBuf,
    pub database_url: Option<String>,
    pub registry: Option<String>,
    pub fine_tuning: FineTuningMode,
    pub admin_addr: Option<SocketAddr>,
    pub worker_threads: Option<usize>,
    pub mlflow_url: Option<String>,
    pub mlflow_experiment: String,
    pub max_sequences: usize,
    pub max_batch_tokens: Option<usize>,
    pub queue_capacity: usize,
    pub queue_seconds: u64,
    pub max_queued_tokens: usize,
    pub kv_tokens: Option<usize>,
    pub default_max_tokens: usize,
    pub drain_seconds: u64,
    pub header_timeout_seconds: u64,
    pub max_header_bytes: usize,
    pub idle_timeout_seconds: u64,
    pub body_timeout_seconds: u64,
    pub max_body_bytes: usize,
    pub send_timeout_seconds: u64,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    pub vllm_metrics: bool,
    pub otlp_endpoint: Option<String>,
    pub log_format: LogFormat,
    pub log: String,
}

impl Default for Settings {
    fn default() -> Self {
        let (engine, service) = (EngineConfig::default(), ServiceSettings::default());
        let (http, listener) = (HttpSettings::default(), ListenerSettings::default());
        let store = StoreSettings::default();
        Self {
            model: PathBuf::from("models/demo"),
            dtype: service.dtype,
            device: service.device,
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            data_dir: store.data_dir,
            database_url: store.database_url,
            registry: None,
            fine_tuning: FineTuningMode::Local,
            admin_addr: None,
            worker_threads: None,
            mlflow_url: None,
            mlflow_experiment: "steersman".to_owned(),
            max_sequences: engine.max_sequences,
            max_batch_tokens: engine.max_batch_tokens,
            queue_capacity: engine.queue_capacity,
            queue_seconds: service.queue_patience.as_secs(),
            max_queued_tokens: engine.max_queued_tokens,
            kv_tokens: engine.kv_tokens,
            default_max_tokens: service.default_max_tokens,
            drain_seconds: 30,
            header_timeout_seconds: listener.header_timeout.as_secs(),
            max_header_bytes: listener.max_header_bytes,
            idle_timeout_seconds: listener.idle_timeout.as_secs(),
            body_timeout_seconds: http.body_timeout.as_secs(),
            max_body_bytes: http.max_body_bytes,
            send_timeout_seconds: listener.send_timeout.as_secs(),
            max_connections: listener.max_connections,
            max_connections_per_peer: listener.max_connections_per_peer,
            vllm_metrics: http.vllm_metrics,
            otlp_endpoint: None,
            log_format: LogFormat::Text,
            log: "info".to_owned(),
        }
    }
}

impl Settings {
    /// What the service is told.
    pub fn service(&self) -> ServiceSettings {
        ServiceSettings {
            engine: EngineConfig {
                max_sequences: self.max_sequences,
                max_batch_tokens: self.max_batch_tokens,
                queue_capacity: self.queue_capacity,
                max_queued_tokens: self.max_queued_tokens,
                kv_tokens: self.kv_tokens,
            },
            default_max_tokens: self.default_max_tokens,
            queue_patience: Duration::from_secs(self.queue_seconds),
            dtype: self.dtype,
            device: self.device,
        }
    }

    /// Where the state lies.
    pub fn store(&self) -> StoreSettings {
        StoreSettings {
            data_dir: self.data_dir.clone(),
            database_url: self.database_url.clone(),
        }
    }

    /// What the routes are told.
    pub fn http(&self) -> HttpSettings {
        HttpSettings {
            max_body_bytes: self.max_body_bytes,
            body_timeout: Duration::from_secs(self.body_timeout_seconds),
            vllm_metrics: self.vllm_metrics,
            ..HttpSettings::default()
        }
    }

    /// What the listener is told.
    pub fn listener(&self) -> ListenerSettings {
        ListenerSettings {
            header_timeout: Duration::from_secs(self.header_timeout_seconds),
            max_header_bytes: self.max_header_bytes,
            idle_timeout: Duration::from_secs(self.idle_timeout_seconds),
            send_timeout: Duration::from_secs(self.send_timeout_seconds),
            max_connections: self.max_connections,
            max_connections_per_peer: self.max_connections_per_peer,
        }
    }

    /// Refuses bounds under which nobody could be served.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        for (key, value, least) in [
            ("queue_seconds", self.queue_seconds, 1),
            ("header_timeout_seconds", self.header_timeout_seconds, 1),
            ("max_header_bytes", wide(self.max_header_bytes), 1024),
            ("idle_timeout_seconds", self.idle_timeout_seconds, 1),
            ("body_timeout_seconds", self.body_timeout_seconds, 1),
            ("max_body_bytes", wide(self.max_body_bytes), 1024),
            ("send_timeout_seconds", self.send_timeout_seconds, 1),
            ("max_connections", wide(self.max_connections), 1),
            (
                "max_connections_per_peer",
                wide(self.max_connections_per_peer),
                1,
            ),
        ] {
            if value < least {
                return Err(ConfigError::TooLow { key, value, least });
            }
        }
        Ok(())
    }
}

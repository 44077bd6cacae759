//! The one struct that is both the server's flags and its TOML file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::service::{Device, Dtype};

/// Settings of one source; what it does not name is left to a weaker one. clap fills it from
/// flags and, weaker than these, from the environment; serde fills it from the TOML file.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsLayer {
    /// Folder of the model to serve: config.json, tokenizer.json, safetensors, and where it is
    /// steerable steering.json or policies/. Or a GGUF file, which saves disk and download, and
    /// loses what its types lose. Or a model of the Hugging Face hub, ORG/NAME or ORG/NAME@REVISION, of
    /// GGUF files ORG/NAME:FILE.gguf or ORG/NAME:Q8_0: fetched once into the cache that Hugging Face's
    /// tools share, with HF_TOKEN if it is private; a revision that is a commit can never change
    /// under the server, a branch may at its next start [default: models/demo]
    #[arg(long, env = "STEERSMAN_MODEL", value_name = "DIR|FILE.gguf|ORG/NAME")]
    pub model: Option<PathBuf>,

    /// Numbers that linear layers multiply: `f32`, `bf16`, `q8_0`, `q4_0` or `auto`. Fewer bits
    /// take less memory and are read faster for each token: half with bf16, a quarter with q8_0,
    /// an eighth with q4_0. bf16 rounds to 8 significant bits; q8_0 and q4_0 to whole numbers of 8
    /// or 4 bits with a scale for each 32, of which q4_0 is felt in answers. Sums, norms, attention
    /// and adapters stay f32. `auto` takes bf16 for a checkpoint that is stored in it and too large
    /// for a cache (64 MiB), where the processor has AVX2 or AVX-512, else f32; of a GGUF file it
    /// keeps Q8_0 and Q4_0 as they are [default: auto]
    #[arg(long, env = "STEERSMAN_DTYPE", value_name = "DTYPE")]
    pub dtype: Option<Dtype>,

    /// What computes the model: `cpu`, or a GPU with `cuda` or `cuda:N` in a build with the cargo
    /// feature cuda. A GPU is for many answers side by side; it computes in bf16 only, and its
    /// answers have other bits than the processor's. `auto` takes the first GPU, or the processor
    /// where there is none. Training computes on the processor in any case [default: cpu]
    #[arg(long, env = "STEERSMAN_DEVICE", value_name = "cpu|cuda[:N]|auto")]
    pub device: Option<Device>,

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

    /// Bucket that speaks S3, s3://BUCKET/PREFIX, for checkpoints and uploaded files beside the data
    /// folder, which then is a cache of it: servers and workers on several hosts need no shared one.
    /// Endpoint, region and credentials come from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN [default: none]
    #[arg(long, env = "STEERSMAN_REGISTRY", value_name = "URL")]
    pub registry: Option<String>,

    /// Who runs training jobs: `local` takes them and starts a worker process beside the server
    /// while there is one to do, `remote` takes them and leaves them to `steersman worker`
    /// elsewhere, `off` takes none [default: local]
    #[arg(long, env = "STEERSMAN_FINE_TUNING", value_name = "MODE")]
    pub fine_tuning: Option<FineTuningMode>,

    /// Address of a listener of their own for the admin routes: promotion, files, training jobs;
    /// without it the public listener has them too, for keys with the scope admin [default: none]
    #[arg(long, env = "STEERSMAN_ADMIN_ADDR", value_name = "HOST:PORT")]
    pub admin_addr: Option<SocketAddr>,

    /// Threads of the worker process that the server starts. More train faster and leave less of
    /// the machine to answers; it runs at low priority (nice 10) in any case [default: half of the
    /// machine's]
    #[arg(long, env = "STEERSMAN_WORKER_THREADS", value_name = "N")]
    pub worker_threads: Option<usize>,

    /// Address of an MLflow server that is told every step's numbers of the jobs that the server's
    /// worker runs. What it does or fails to do never changes or stops a job. A token is read from
    /// MLFLOW_TRACKING_TOKEN [default: none]
    #[arg(long, env = "STEERSMAN_MLFLOW_URL", value_name = "URL")]
    pub mlflow_url: Option<String>,

    /// Name of the experiment that runs belong to there; made where there is none [default:
    /// steersman]
    #[arg(long, env = "STEERSMAN_MLFLOW_EXPERIMENT", value_name = "NAME")]
    pub mlflow_experiment: Option<String>,

    /// Answers generated side by side. More raise throughput and cost memory (each has its own
    /// cache) and speed of the single answer; further requests wait [default: 64]
    #[arg(long, env = "STEERSMAN_MAX_SEQUENCES", value_name = "N")]
    pub max_sequences: Option<usize>,

    /// Tokens computed in one iteration. Fewer keep running streams smooth while a long prompt
    /// comes in, and short prompts from waiting for others; too few waste the machine [default: one
    /// for each answer under way, and of prompts 128 on a processor, 512 on a device]
    #[arg(long, env = "STEERSMAN_MAX_BATCH_TOKENS", value_name = "N")]
    pub max_batch_tokens: Option<usize>,

    /// Requests that may wait beyond those that run. A long queue answers late, a short one
    /// refuses early, with 429 [default: 256]
    #[arg(long, env = "STEERSMAN_QUEUE_CAPACITY", value_name = "N")]
    pub queue_capacity: Option<usize>,

    /// Seconds that a request may wait for its first token; after that 504. Whoever waits longer
    /// has most likely gone, but a long prompt on a slow machine takes its time [default: 120]
    #[arg(long, env = "STEERSMAN_QUEUE_SECONDS", value_name = "N")]
    pub queue_seconds: Option<u64>,

    /// Prompt tokens that may wait for a place; requests beyond them get 429. More keep long
    /// prompts waiting instead of refused [default: 65536]
    #[arg(long, env = "STEERSMAN_MAX_QUEUED_TOKENS", value_name = "N")]
    pub max_queued_tokens: Option<usize>,

    /// Tokens that the cache of keys and values holds. More let more and longer answers run side
    /// by side and keep more prefixes, and cost memory, all of which is taken at the start [default:
    /// what the places can use, at most half of the free memory, taken as it is used]
    #[arg(long, env = "STEERSMAN_KV_TOKENS", value_name = "N")]
    pub kv_tokens: Option<usize>,

    /// Tokens of an answer where neither request nor checkpoint states a number. Higher risks
    /// long answers nobody asked for, lower cuts answers off [default: 256]
    #[arg(long, env = "STEERSMAN_DEFAULT_MAX_TOKENS", value_name = "N")]
    pub default_max_tokens: Option<usize>,

    /// Seconds that running answers get to finish after SIGTERM, before they are cut with an
    /// error event. Keep it below the time after which your supervisor kills [default: 30]
    #[arg(long, env = "STEERSMAN_DRAIN_SECONDS", value_name = "N")]
    pub drain_seconds: Option<u64>,

    /// Seconds for a request's head to arrive whole. Fewer free the places of clients that trickle
    /// it in; more are kinder to bad networks [default: 10]
    #[arg(long, env = "STEERSMAN_HEADER_TIMEOUT_SECONDS", value_name = "N")]
    pub header_timeout_seconds: Option<u64>,

    /// Bytes of a request's head, all header fields together; more get 431. It is also what a
    /// connection may cost before it has asked for anything [default: 32768]
    #[arg(long, env = "STEERSMAN_MAX_HEADER_BYTES", value_name = "N")]
    pub max_header_bytes: Option<usize>,

    /// Seconds that a connection may be idle before a request. More spare clients and proxies new
    /// connections, and keep places for those who ask for nothing; stay above your proxy's own
    /// limit, or it will use connections that are just being closed [default: 75]
    #[arg(long, env = "STEERSMAN_IDLE_TIMEOUT_SECONDS", value_name = "N")]
    pub idle_timeout_seconds: Option<u64>,

    /// Seconds for a request's body to arrive whole; later get 408. Fewer free the places of slow
    /// senders, more let large bodies come over slow networks [default: 30]
    #[arg(long, env = "STEERSMAN_BODY_TIMEOUT_SECONDS", value_name = "N")]
    pub body_timeout_seconds: Option<u64>,

    /// Bytes of a request's body; more get 413. It bounds what one request costs in memory, and
    /// how many answers can be compared or prompts sent in one [default: 2097152]
    #[arg(long, env = "STEERSMAN_MAX_BODY_BYTES", value_name = "N")]
    pub max_body_bytes: Option<usize>,

    /// Seconds that a client may take nothing of a reply that waits for it, before its connection
    /// is closed and its answer ends. Fewer free the blocks of readers that have gone without a
    /// word, more let slow readers pause [default: 60]
    #[arg(long, env = "STEERSMAN_SEND_TIMEOUT_SECONDS", value_name = "N")]
    pub send_timeout_seconds: Option<u64>,

    /// Connections at once; further ones get 503. Keep it below the process's limit of open files
    /// [default: 1000]
    #[arg(long, env = "STEERSMAN_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,

    /// Connections at once of one address (IPv6: of one /64 network). Fewer leave more places to
    /// others; behind a proxy all clients are one address, so raise it to that of
    /// --max-connections [default: 700]
    #[arg(long, env = "STEERSMAN_MAX_CONNECTIONS_PER_PEER", value_name = "N")]
    pub max_connections_per_peer: Option<usize>,

    /// Tell metrics under vLLM's names too, for dashboards and autoscalers made for it, at the
    /// price of longer scrapes [default: false]
    #[arg(long, env = "STEERSMAN_VLLM_METRICS", value_name = "BOOL", num_args = 0..=1,
          default_missing_value = "true")]
    pub vllm_metrics: Option<bool>,

    /// Address of an OpenTelemetry collector (OTLP over HTTP, such as http://localhost:4318) that
    /// gets a trace of each request: its wait, prefill and decoding, with ids and token counts,
    /// never texts or keys. Costs some spans a request. Further settings are OpenTelemetry's own
    /// variables, OTEL_SERVICE_NAME and the like; OTEL_EXPORTER_OTLP_ENDPOINT does for the address
    /// too. Needs a build with the cargo feature otel [default: none]
    #[arg(long, env = "STEERSMAN_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
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
}

//! `steersman serve`: the server, from settings to the last finished stream.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::fetching::{self, Lines};
use super::logging::{self, LogFilterError};
use super::variables;
use super::worker_process::WorkerProcess;
use crate::config::{ConfigError, FineTuningMode, Gathered, Settings, SettingsLayer};
use crate::http::{self, HttpSettings, ListenerSettings, Side};
use crate::hub::HubError;
use crate::service::{
    App, FineTuning, LoadError, OpenToAll, Phase, PromotionError, chain, may_listen,
};
use crate::storage::{Bucket, StorageError};
use crate::store::{Store, StoreError};
use crate::telemetry::{Traces, TracesError};

/// How long cut streams get to tell their clients so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often promotions of other servers are looked for.
const FOLLOWED_EVERY: Duration = Duration::from_secs(5);

/// Serve a model over HTTP.
///
/// Says on standard output where it is ready; everything else is a log line on standard error.
/// `/` is a page to try it, `/docs` the API; OpenAI's clients work with the base URL
/// http://HOST:PORT/v1. SIGTERM lets running answers finish.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// TOML file with settings; its keys are the flags' names with `_` for `-`. Flags and
    /// environment variables win over it
    #[arg(long, env = "STEERSMAN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings in effect as a TOML file, each with where it came from and without
    /// secrets, and end
    #[arg(
        long,
        env = "STEERSMAN_PRINT_CONFIG",
        value_parser = BoolishValueParser::new()
    )]
    print_config: bool,
    #[command(flatten)]
    layer: SettingsLayer,
}

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("the settings cannot be used")]
    Config(#[from] ConfigError),
    #[error(
        "the environment variable `{0}` is no setting of this program; `steersman serve --help` \
         lists them"
    )]
    Variable(String),
    #[error(transparent)]
    Log(#[from] LogFilterError),
    #[error(transparent)]
    OpenToAll(#[from] OpenToAll),
    #[error("the registry's bucket cannot be used")]
    Storage(#[from] StorageError),
    #[error("the server's state cannot be opened")]
    Store(#[from] StoreError),
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the policies that were promoted cannot be read")]
    Promoted(#[from] PromotionError),
    #[error(transparent)]
    Traces(#[from] TracesError),
    #[error("the server failed")]
    Io(#[from] io::Error),
}

/// `matches` tells which settings stood on the command line.
pub(super) fn run(args: &ServeArgs, matches: Option<&ArgMatches>) -> Result<(), ServeError> {
    if let Some(name) = variables::misspelt() {
        return Err(ServeError::Variable(name));
    }
    let file = match &args.config {
        Some(path) => Some((path.as_path(), SettingsLayer::from_file(path)?)),
        None => None,
    };
    let is_flag =
        |key: &str| matches.and_then(|own| own.value_source(key)) == Some(ValueSource::CommandLine);
    let gathered = Gathered::new(file, &args.layer, is_flag)?;
    if args.print_config {
        return Ok(super::print(&gathered.render()?)?);
    }
    let settings = gathered.settings;
    logging::start(settings.log_format, &settings.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(settings));
    // a model that is still read when a signal comes keeps nobody waiting
    runtime.shutdown_background();
    served
}

async fn serve(settings: Settings) -> Result<(), ServeError> {
    let traces = Traces::start(settings.otlp_endpoint.as_deref())?;
    let served = serve_traced(settings, &traces).await;
    // sends what is left, for which it blocks
    let ended = tokio::task::spawn_blocking(move || traces.end()).await;
    if let Err(error) = ended {
        tracing::warn!("the last traces were not told: {error}");
    }
    served
}

async fn serve_traced(settings: Settings, traces: &Traces) -> Result<(), ServeError> {
    let mut signals = Signals::listen()?;
    let bucket = settings.registry.as_deref().map(Bucket::open).transpose()?;
    let store = Store::open(&settings.store()).await?;
    let has_keys = store.has_keys().await?;
    // before the model is loaded: an address in use should not cost a minute to find out
    let public = listen(settings.addr, has_keys).await?;
    let admin = match settings.admin_addr {
        Some(addr) => Some(listen(addr, has_keys).await?),
        None => None,
    };
    let app = tokio::select! {
        app = load(&settings, store.clone(), bucket) => app?,
        () = signals.next() => return Ok(()),
    };
    tokio::spawn(follow(Arc::clone(&app)));
    let listeners = Listeners { public, admin };
    super::print(&listeners.announced(&settings, has_keys)?)?;
    // dropped at the end, it ends the worker
    let _worker = match settings.fine_tuning {
        FineTuningMode::Local => Some(WorkerProcess::keep(store, &settings)?),
        FineTuningMode::Remote | FineTuningMode::Off => None,
    };
    let routes = HttpSettings {
        traces: traces.clone(),
        ..settings.http()
    };
    drive(listeners, app, signals, &settings, &routes).await
}

/// The app, with the policies that were promoted.
async fn load(
    settings: &Settings,
    store: Store,
    bucket: Option<Bucket>,
) -> Result<Arc<App>, ServeError> {
    let model = fetching::located(&settings.model, Lines::Logged).await?;
    let (started, service) = (Instant::now(), settings.service());
    let loading = tokio::task::spawn_blocking(move || {
        let app = App::load(&model, &service)?;
        app.check_answers().map(|()| app)
    });
    let app = match loading.await {
        Ok(app) => app?.with_store(store.clone()),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let app = match settings.fine_tuning {
        FineTuningMode::Off => app,
        FineTuningMode::Local | FineTuningMode::Remote => app.with_fine_tuning(FineTuning {
            bucket: bucket.clone(),
            ..FineTuning::at(&settings.data_dir)
        }),
    };
    let app = match settings.admin_addr {
        Some(_) => app.with_admin_apart(),
        None => app,
    };
    let restored = app.with_registry_in(&settings.data_dir, store, bucket);
    let app = restored.await?;
    tracing::info!(ms = started.elapsed().as_millis(), "model loaded");
    Ok(app)
}

async fn listen(addr: SocketAddr, has_keys: bool) -> Result<TcpListener, ServeError> {
    may_listen(addr, has_keys)?;
    TcpListener::bind(addr)
        .await
        .map_err(|source| ServeError::Listen { addr, source })
}

/// Where requests come from.
struct Listeners {
    public: TcpListener,
    /// Of the admin routes alone, where these have one.
    admin: Option<TcpListener>,
}

impl Listeners {
    /// What a starting server says of itself: one text, since whoever waits for the first line may
    /// read no other.
    fn announced(&self, settings: &Settings, has_keys: bool) -> io::Result<String> {
        let (version, addr) = (env!("CARGO_PKG_VERSION"), self.public.local_addr()?);
        let mut text = format!("steersman {version} ready on http://{addr}\n");
        if let Some(admin) = &self.admin {
            let addr = admin.local_addr()?;
            text += &format!("admin routes on http://{addr}/admin/v1\n");
        }
        if !has_keys {
            text += "there are no keys, so it listens on loopback only; `steersman keys create` \
                     makes one\n";
        }
        let folder = std::path::absolute(&settings.data_dir)?;
        let database = match settings.database_url {
            Some(_) => ", and in PostgreSQL",
            None => "",
        };
        text += &format!("its data lie in {}{database}\n", folder.display());
        Ok(text)
    }

    /// Serves both until the process drains and every reply under way is at its end.
    async fn serve(
        self,
        app: &Arc<App>,
        routes: &HttpSettings,
        limits: ListenerSettings,
    ) -> io::Result<()> {
        let on =
            |listener, side| http::serve(listener, Arc::clone(app), side, routes, limits.clone());
        let Self { public, admin } = self;
        let apart = async {
            match admin {
                Some(listener) => on(listener, Side::Admin).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(on(public, Side::Public), apart).map(|_| ())
    }
}

/// Takes over promotions that other servers make in the same store.
async fn follow(app: Arc<App>) {
    let mut turns = tokio::time::interval(FOLLOWED_EVERY);
    loop {
        turns.tick().await;
        if let Err(error) = app.follow().await {
            tracing::warn!("promotions cannot be read: {}", chain(&error));
        }
    }
}

/// Serves until a signal, then lets running answers finish, then cuts what is left.
async fn drive(
    listeners: Listeners,
    app: Arc<App>,
    mut signals: Signals,
    settings: &Settings,
    routes: &HttpSettings,
) -> Result<(), ServeError> {
    let drain = Duration::from_secs(settings.drain_seconds);
    let server = listeners.serve(&app, routes, settings.listener());
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = signals.next() => {}
    }
    tracing::info!(
        seconds = drain.as_secs(),
        "stopping: running answers may finish"
    );
    app.lifecycle().advance(Phase::Draining);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = tokio::time::sleep(drain) => tracing::warn!("cutting answers that did not finish"),
        () = signals.next() => tracing::warn!("second signal: cutting answers that still run"),
    }
    app.lifecycle().advance(Phase::Ending);
    match tokio::time::timeout(LAST_WORDS, server).await {
        Ok(ended) => Ok(ended?),
        // a client that does not read its last words does not keep the process
        Err(_) => Ok(()),
    }
}

/// The signals that ask the process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self {
            terminate,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

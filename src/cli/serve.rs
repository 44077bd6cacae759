//! `steersman serve`: the server, from settings to the last finished stream.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::ListenerExt;
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging::{self, LogFilterError};
use crate::config::{ConfigError, Settings, SettingsLayer};
use crate::http;
use crate::service::{App, LoadError, OpenToAll, Phase, PromotionError, chain, may_listen};
use crate::store::{Store, StoreError};

/// How long cut streams get to tell their clients so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often promotions of other servers are looked for.
const FOLLOWED_EVERY: Duration = Duration::from_secs(5);

/// Serve a model over HTTP.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// TOML file with settings; its keys are the flags' names with `_` for `-`. Flags and
    /// environment variables win over it
    #[arg(long, env = "STEERSMAN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    layer: SettingsLayer,
}

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("the settings cannot be used")]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Log(#[from] LogFilterError),
    #[error(transparent)]
    OpenToAll(#[from] OpenToAll),
    #[error("the server's state cannot be opened")]
    Store(#[from] StoreError),
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the policies that were promoted cannot be read")]
    Promoted(#[from] PromotionError),
    #[error("the server failed")]
    Io(#[from] io::Error),
}

pub(super) fn run(args: ServeArgs) -> Result<(), ServeError> {
    let file = match &args.config {
        Some(path) => SettingsLayer::from_file(path)?,
        None => SettingsLayer::default(),
    };
    let settings = args.layer.over(file).settle();
    logging::start(settings.log_format, &settings.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), ServeError> {
    let store = Store::open(&settings.store).await?;
    may_listen(settings.addr, store.has_keys().await?)?;
    // before the model is loaded: an address in use should not cost a minute to find out
    let listener = TcpListener::bind(settings.addr)
        .await
        .map_err(|source| ServeError::Listen {
            addr: settings.addr,
            source,
        })?;
    let mut signals = Signals::listen()?;
    let started = Instant::now();
    let (model, service) = (settings.model.clone(), settings.service.clone());
    let loading = tokio::task::spawn_blocking(move || App::load(&model, &service));
    let app = tokio::select! {
        loaded = loading => match loaded {
            Ok(app) => app?
                .with_store(store.clone())
                .with_registry(&settings.store.data_dir, store)
                .await?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        },
        () = signals.next() => return Ok(()),
    };
    tracing::info!(ms = started.elapsed().as_millis(), "model loaded");
    tokio::spawn(follow(Arc::clone(&app)));
    let addr = listener.local_addr()?;
    super::print(&format!(
        "steersman {} ready on http://{addr}\n",
        env!("CARGO_PKG_VERSION")
    ))?;
    drive(
        listener,
        app,
        signals,
        Duration::from_secs(settings.drain_seconds),
    )
    .await
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
    listener: TcpListener,
    app: Arc<App>,
    mut signals: Signals,
    drain: Duration,
) -> Result<(), ServeError> {
    let draining = app.lifecycle().reached(Phase::Draining);
    // without this a chunk may wait for the acknowledgement of the one before it
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("a connection stays with delays: {error}");
        }
    });
    let server = axum::serve(listener, http::router(Arc::clone(&app)));
    let mut server = std::pin::pin!(async move { server.with_graceful_shutdown(draining).await });
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

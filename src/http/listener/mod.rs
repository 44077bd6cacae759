//! The accept loop: who may connect, how long each may take, how everything ends.
//!
//! `axum::serve` waits for ever for half a header and takes any number of connections; this loop
//! bounds what a connection costs before a request of it exists. What a request may cost is the
//! routes' business, and the engine's.

mod connection;
mod crowd;
mod refusal;
mod seldom;
mod settings;
mod turn;
mod wire;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::error::ApiError;
use super::meters::HttpMeters;
use super::{HttpSettings, Side};
use crate::service::{App, Lifecycle, Phase};
use crowd::{Crowd, Seat};
use seldom::Seldom;
pub use settings::ListenerSettings;

/// How long the loop rests when the system refuses it a connection, for example for want of files.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it says so.
const SAID_EVERY: Duration = Duration::from_secs(1);
/// Clients that are told at once that there is no room; more are dropped without a word.
const TOLD_AT_ONCE: usize = 64;

/// What every connection shares.
struct Host {
    router: Router,
    limits: ListenerSettings,
    lifecycle: Arc<Lifecycle>,
    meters: Arc<HttpMeters>,
    /// Requests whose reply is not at its end.
    running: watch::Sender<usize>,
    /// True once what has not begun may not begin any more.
    closing: watch::Sender<bool>,
}

/// Serves until the process drains and every reply under way is at its end. While it drains it
/// goes on answering, so that probes and clients hear why they are refused.
///
/// # Errors
/// The listener cannot tell its own address.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    side: Side,
    settings: &HttpSettings,
    limits: ListenerSettings,
) -> io::Result<()> {
    let addr = listener.local_addr()?;
    tracing::debug!(%addr, ?limits, "listening");
    let meters = Arc::new(HttpMeters::default());
    let lifecycle = Arc::clone(app.lifecycle());
    let host = Arc::new(Host {
        router: super::router_with(app, side, settings, Arc::clone(&meters)),
        lifecycle,
        meters,
        running: watch::Sender::new(0),
        closing: watch::Sender::new(false),
        limits,
    });
    let mut connections = JoinSet::new();
    accept_until_quiet(listener, &host, &mut connections).await;
    host.closing.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn accept_until_quiet(
    listener: TcpListener,
    host: &Arc<Host>,
    connections: &mut JoinSet<()>,
) {
    let crowd = Arc::new(Crowd::new(&host.limits));
    let told = Arc::new(Semaphore::new(TOLD_AT_ONCE));
    let mut refusals = Seldom::new(SAID_EVERY);
    let mut quiet = std::pin::pin!(async {
        host.lifecycle.reached(Phase::Draining).await;
        // the sender is the host's own, so it cannot be gone
        let _ = host.running.subscribe().wait_for(|n| *n == 0).await;
    });
    loop {
        let (stream, seat) = tokio::select! {
            () = &mut quiet => return,
            // finished ones must not pile up
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &crowd, host, &mut refusals) => accepted,
        };
        let host = Arc::clone(host);
        match seat {
            Some(seat) => {
                connections.spawn(async move {
                    let _seat = seat;
                    connection::drive(stream, &host).await;
                });
            }
            None => {
                let Ok(permit) = Arc::clone(&told).try_acquire_owned() else {
                    continue;
                };
                connections.spawn(async move {
                    let _permit = permit;
                    let error = ApiError::too_many_connections();
                    host.meters.errors.add(error.code());
                    refusal::tell(stream, error).await;
                });
            }
        }
    }
}

/// The next connection, and its seat where there is one.
async fn accept(
    listener: &TcpListener,
    crowd: &Arc<Crowd>,
    host: &Host,
    refusals: &mut Seldom,
) -> (TcpStream, Option<Seat>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // one that went away before it was taken concerns nobody
                if !is_about_the_peer(&error) {
                    if let Some(times) = refusals.count(Instant::now()) {
                        tracing::error!(times, "cannot take a connection: {error}");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        // without this a chunk may wait for the acknowledgement of the one before it
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("a connection stays with delays: {error}");
        }
        return match crowd.enter(peer.ip(), &host.meters) {
            Ok(seat) => (stream, Some(seat)),
            Err(full) => {
                host.meters.refused_connections.add(full.word());
                (stream, None)
            }
        };
    }
}

fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

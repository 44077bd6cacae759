//! Clients of others' servers: how a connection is opened, and whether it is kept.
//!
//! TLS where the address says `https`, against the roots that Mozilla trusts; plain HTTP where it
//! says `http`, for stand-ins and for services in the same network. No redirect is followed and no
//! proxy asked. What is sent, and for how long an answer is waited, is the caller's.

use std::time::Duration;

use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Opens connections. Its clones share what TLS remembers of earlier ones.
pub type Connector = HttpsConnector<HttpConnector>;
/// Sends requests with bodies of type `B`, within the runtime that it was made in.
pub type Client<B> = legacy::Client<Connector, B>;

/// What opens connections.
pub fn connector() -> Connector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.enforce_http(false);
    HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp)
}

/// A client that keeps idle connections for its next requests.
pub fn client<B>(connector: Connector) -> Client<B>
where
    B: Body + Send,
    B::Data: Send,
{
    legacy::Client::builder(TokioExecutor::new()).build(connector)
}

/// A client that opens a connection for each request: for requests so far apart that a server
/// closes idle ones in between.
pub fn client_without_pool<B>(connector: Connector) -> Client<B>
where
    B: Body + Send,
    B::Data: Send,
{
    legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector)
}

//! Open connections to one server, each for one request at a time and used again after it.

use std::io;
use std::sync::{Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// One open connection.
pub(super) type Connection = SendRequest<Full<Bytes>>;

/// Why a request got no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// Nobody listens, or not to us.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// The connection failed on the way.
    #[error("the connection broke off")]
    Http(#[from] hyper::Error),
}

/// The connections that nobody uses now.
#[derive(Debug)]
pub(super) struct Connections {
    host: String,
    port: u16,
    idle: Mutex<Vec<Connection>>,
}

impl Connections {
    /// To this server; opens none yet.
    pub(super) fn to(host: String, port: u16) -> Self {
        Self {
            host,
            port,
            idle: Mutex::default(),
        }
    }

    /// Sends a request and waits for the head of its reply. The connection is to be put back once
    /// the body is read, or dropped to cut the request off.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        if let Some(mut connection) = self.take() {
            // a server may close an idle connection just as it is used again: then nothing was
            // asked of it, and a new one may be
            if connection.ready().await.is_ok() {
                let again = request.clone();
                match connection.try_send_request(request).await {
                    Ok(reply) => return Ok((reply, connection)),
                    // written, but the server had closed before it read a byte, and said nothing
                    Err(refused) if refused.error().is_incomplete_message() => {
                        return self.send_anew(again).await;
                    }
                    Err(mut refused) => match refused.take_message() {
                        Some(request) => return self.send_anew(request).await,
                        None => return Err(refused.into_error().into()),
                    },
                }
            }
        }
        self.send_anew(request).await
    }

    async fn send_anew(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        let mut connection = self.connect().await?;
        let reply = connection.send_request(request).await?;
        Ok((reply, connection))
    }

    async fn connect(&self) -> Result<Connection, SendError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(SendError::Connect)?;
        stream.set_nodelay(true).map_err(SendError::Connect)?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        // ends with its connection; whoever uses that is told of failures
        tokio::spawn(driver);
        Ok(sender)
    }

    /// Keeps a connection for the next request.
    pub(super) fn put_back(&self, connection: Connection) {
        if !connection.is_closed() {
            self.idle().push(connection);
        }
    }

    fn take(&self) -> Option<Connection> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // a list of handles is whole at every moment
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

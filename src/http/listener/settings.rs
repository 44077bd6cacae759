//! What a connection may cost.

use std::time::Duration;

/// Bounds of what clients may take up before, between and after requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// For a request's head, from its first byte to its end.
    pub header_timeout: Duration,
    /// Bytes of a request's head: request line and header fields together.
    pub max_header_bytes: usize,
    /// For the first byte of a connection's first or next request.
    pub idle_timeout: Duration,
    /// For a client to take any bytes of a reply that waits for it.
    pub send_timeout: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once of one address; of one /64 network where it is IPv6.
    pub max_connections_per_peer: usize,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 32 << 10,
            idle_timeout: Duration::from_secs(75),
            send_timeout: Duration::from_secs(60),
            max_connections: 1000,
            max_connections_per_peer: 700,
        }
    }
}

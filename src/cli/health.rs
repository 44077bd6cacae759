//! `steersman health`: whether a server answers, for supervisors that can only run a command.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use super::print;

/// Longest wait for each of connecting, sending and the next bytes of the answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Bytes of an answer that are read.
const MOST: u64 = 64 << 10;

/// Ask a running server whether it answers requests.
///
/// Ends with status 0 if it does, else with 1 and the reason: for supervisors that can only run a
/// command.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// What to ask, as in http://127.0.0.1:8080/readyz; plain HTTP only [default: /readyz of the
    /// address in --addr]
    #[arg(long, env = "STEERSMAN_HEALTH_URL", value_name = "URL")]
    url: Option<String>,
    /// Where the server listens, if no URL is given; a server that listens on all addresses is
    /// asked through loopback
    #[arg(
        long,
        env = "STEERSMAN_ADDR",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080"
    )]
    addr: SocketAddr,
}

/// Why a server cannot be said to answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HealthError {
    #[error("`{0}` is no address to ask, expected http://HOST:PORT/PATH")]
    Url(String),
    #[error("no server answers at {url}")]
    Silent {
        url: String,
        #[source]
        source: io::Error,
    },
    #[error("{url} answers {said}")]
    Unready { url: String, said: String },
}

/// Prints what the server says; an error unless it is well.
pub(super) fn run(args: &HealthArgs) -> Result<(), HealthError> {
    let url = args
        .url
        .clone()
        .unwrap_or_else(|| format!("http://{}/readyz", reachable(args.addr)));
    let silent = |source| HealthError::Silent {
        url: url.clone(),
        source,
    };
    let (host, path) = parts(&url).ok_or_else(|| HealthError::Url(url.clone()))?;
    let answer = ask(&host, path).map_err(silent)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => print(&format!("{}\n", body.trim())).map_err(silent),
        _ => Err(HealthError::Unready {
            url,
            said: format!("{status} {body}").trim().to_owned(),
        }),
    }
}

/// An address that a client can connect to.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// `HOST:PORT` and the path of a plain HTTP URL.
fn parts(url: &str) -> Option<(String, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/readyz"),
    };
    let is_written = |part: &str| !part.contains(|c: char| c.is_whitespace() || c.is_control());
    if host.is_empty() || host.contains('@') || !is_written(url) {
        return None;
    }
    // the last colon of an IPv6 address in brackets is inside them
    let has_port = host.rfind(':') > host.rfind(']');
    let port = if has_port { "" } else { ":80" };
    Some((format!("{host}{port}"), path))
}

fn ask(host: &str, path: &str) -> io::Result<String> {
    let addr = host
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: application/json\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_into_host_and_path() {
        let check = |url: &str, host: &str, path: &str| {
            assert_eq!(parts(url), Some((host.to_owned(), path)), "{url}");
        };
        check("http://127.0.0.1:8080/readyz", "127.0.0.1:8080", "/readyz");
        check("http://server:1", "server:1", "/readyz");
        check("http://server/", "server:80", "/");
        check("http://[::1]:9/healthz", "[::1]:9", "/healthz");
        check("http://[::1]/x", "[::1]:80", "/x");
        for url in [
            "https://x/",
            "x",
            "http://",
            "http:///x",
            "http://a b/",
            "http://u@h/",
        ] {
            assert_eq!(parts(url), None, "{url}");
        }
    }

    #[test]
    fn a_server_on_all_addresses_is_asked_through_loopback() {
        let asked = |addr: &str| reachable(addr.parse().expect("an address")).to_string();
        assert_eq!(asked("0.0.0.0:7"), "127.0.0.1:7");
        assert_eq!(asked("[::]:7"), "[::1]:7");
        assert_eq!(asked("10.0.0.2:7"), "10.0.0.2:7");
    }
}

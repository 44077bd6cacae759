//! What the hub says of a repository and of its files.

use std::collections::BTreeSet;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::header::{CONTENT_LENGTH, ETAG, HeaderMap};
use hyper::{Method, Uri};
use serde::Deserialize;

use super::cache::Commit;
use super::client::{CallError, Client, deepest, host, odd};
use super::etag::Etag;
use super::name::HubName;
use super::path::RepoPath;

/// Most bytes of a repository's description; of many thousand files it is about one.
const MOST: usize = 32 << 20;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A repository's files at one commit.
pub(super) struct Listing {
    pub(super) commit: Commit,
    pub(super) files: BTreeSet<RepoPath>,
}

/// A file as the hub describes it.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    pub(super) path: RepoPath,
    pub(super) address: Uri,
    pub(super) etag: Etag,
    /// Bytes.
    pub(super) size: u64,
}

/// Asks which commit a revision is, and which files it has.
pub(super) async fn listing(client: &Client, name: &HubName) -> Result<Listing, CallError> {
    let revision = quoted(&name.revision, "");
    let route = format!("api/models/{}/revision/{revision}", name.repository);
    let address = client.address(&route)?;
    let asked = client.ask(&Method::GET, address.clone(), 0, |_, _| false);
    let body = Limited::new(asked.await?.into_body(), MOST);
    let read = tokio::time::timeout(PATIENCE, body.collect()).await;
    let read = read.map_err(|_| CallError::Silent {
        host: host(&address),
        seconds: PATIENCE.as_secs(),
    })?;
    let bytes = read.map_err(|error| CallError::Cut {
        host: host(&address),
        problem: deepest(&*error),
    })?;
    let info: Info = serde_json::from_slice(&bytes.to_bytes())
        .map_err(|error| odd(&address, &format!("its description of the model: {error}")))?;
    let commit = Commit::parse(&info.sha)
        .ok_or_else(|| odd(&address, "it names no commit of 40 hexadecimal digits"))?;
    let path = |sibling: Sibling| {
        let name = &sibling.rfilename;
        RepoPath::parse(name).ok_or_else(|| {
            let problem =
                format!("the model has a file {name:?}, which would lie outside of its folder");
            odd(&address, &problem)
        })
    };
    let files = info.siblings.into_iter().map(path);
    Ok(Listing {
        commit,
        files: files.collect::<Result<_, _>>()?,
    })
}

/// Asks what a file's content is called and how long it is.
///
/// Of a file that lies elsewhere the hub tells both (`X-Linked-…`) with the redirect there.
pub(super) async fn describe(
    client: &Client,
    name: &HubName,
    commit: &Commit,
    path: &RepoPath,
) -> Result<RemoteFile, CallError> {
    let file = quoted(path.as_str(), "/");
    let (repository, commit) = (&name.repository, commit.as_str());
    let address = client.address(&format!("{repository}/resolve/{commit}/{file}"))?;
    let (mut etag, mut size) = (None, None);
    let asked = client.ask(&Method::HEAD, address.clone(), 0, |headers, status| {
        etag = etag.take().or_else(|| header(headers, "x-linked-etag"));
        size = size.take().or_else(|| header(headers, "x-linked-size"));
        if status.is_success() {
            etag = etag.take().or_else(|| header(headers, ETAG.as_str()));
            size = size
                .take()
                .or_else(|| header(headers, CONTENT_LENGTH.as_str()));
        }
        etag.is_some() && size.is_some()
    });
    asked.await?;
    let etag = etag.as_deref().and_then(Etag::parse);
    let etag = etag.ok_or_else(|| odd(&address, "it sends no ETag that could name the file"))?;
    let size = size.and_then(|text| text.trim().parse().ok());
    let size = size.ok_or_else(|| odd(&address, "it does not say how long the file is"))?;
    Ok(RemoteFile {
        path: path.clone(),
        address,
        etag,
        size,
    })
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// Fit to stand in an address: what is neither plain nor kept becomes `%XX`, byte by byte.
fn quoted(text: &str, kept: &str) -> String {
    let each = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ if kept.contains(char::from(byte)) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_addresses() {
        assert_eq!(quoted("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(quoted("a b/é?#%.json", "/"), "a%20b/%C3%A9%3F%23%25.json");
    }
}

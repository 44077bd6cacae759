//! Brings one file's content into the cache, however often the connection breaks.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{CONTENT_RANGE, HeaderMap};
use hyper::{Method, StatusCode};

use super::cache::RepoCache;
use super::client::{CallError, Client, deepest, host, odd};
use super::error::HubError;
use super::listing::RemoteFile;
use super::lock::BlobLock;
use super::name::HubName;
use super::part::Part;
use super::refusal::of_file;
use super::tries::{Patience, Tries};
use super::watch::Tally;

/// How long a file may stop coming before it is asked for again.
const SILENCE: Duration = Duration::from_secs(30);

/// What every file of a repository is fetched with.
pub(super) struct Downloads<'a> {
    pub(super) client: &'a Client,
    pub(super) cache: &'a RepoCache,
    pub(super) tally: &'a Tally<'a>,
    pub(super) patience: Patience,
    pub(super) name: &'a HubName,
}

/// Why a file did not come.
enum Trouble {
    Call(CallError),
    Disk(std::io::Error),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Downloads<'_> {
    /// Makes a file's blob, unless it is here or another process makes it meanwhile.
    pub(super) async fn fetch(&self, file: &RemoteFile) -> Result<(), HubError> {
        let blob = self.cache.blob(&file.etag);
        if blob.is_file() {
            self.tally.add(file.size);
            return Ok(());
        }
        let lock = self.cache.lock(&file.etag);
        let waits = || {
            let line = format!("another process fetches {} of {}", file.path, self.name);
            self.tally.watcher().note(&line);
        };
        let _held = BlobLock::take(&lock, waits)
            .await
            .map_err(|source| HubError::disk(&lock, source))?;
        if blob.is_file() {
            self.tally.add(file.size);
            return Ok(());
        }
        let path = self.cache.incomplete(&file.etag);
        let disk = |source| HubError::disk(&path, source);
        let part = Part::open(path.clone(), &file.etag, file.size).await;
        let mut part = part.map_err(disk)?;
        self.tally.add(part.length());
        self.fill(&mut part, file)
            .await
            .map_err(|trouble| match trouble {
                Trouble::Disk(source) => disk(source),
                Trouble::Call(failure) => of_file(failure, self.client, self.name, &file.path),
            })?;
        part.keep(&blob).await.map_err(disk)
    }

    /// Fills a part until it is full and sound. Only bytes that were never here before count as
    /// progress, so whoever begins anew each time comes to an end.
    async fn fill(&self, part: &mut Part, file: &RemoteFile) -> Result<(), Trouble> {
        let what = format!("{} of {}", file.path, self.name);
        let mut tries = Tries::new(self.patience);
        let mut furthest = part.length();
        let mut was_wrong = false;
        loop {
            let poured = match part.is_full() {
                true => Ok(()),
                false => self.pour(part, file).await,
            };
            let failure = match poured {
                Ok(()) if part.is_sound() => return Ok(()),
                Ok(()) => {
                    self.restart(part)?;
                    if was_wrong {
                        let etag = &file.etag;
                        let problem = format!("the content is twice not the one named {etag}");
                        return Err(odd(&file.address, &problem).into());
                    }
                    was_wrong = true;
                    let line = format!("{what}: the content is damaged; it is fetched again");
                    self.tally.watcher().note(&line);
                    continue;
                }
                Err(Trouble::Call(failure)) => failure,
                Err(disk) => return Err(disk),
            };
            if part.length() > furthest {
                furthest = part.length();
                tries.forget();
            }
            tries.after(failure, &what, self.tally.watcher()).await?;
        }
    }

    /// Asks for what is missing, and appends what comes.
    async fn pour(&self, part: &mut Part, file: &RemoteFile) -> Result<(), Trouble> {
        let from = part.length();
        let address = file.address.clone();
        let asked = self.client.ask(&Method::GET, address, from, |_, _| false);
        let response = match asked.await {
            // nothing stands behind what is here, although something is missing
            Err(CallError::Refused {
                host, status: 416, ..
            }) => {
                self.restart(part)?;
                let problem = "it has no more of the file".to_owned();
                return Err(CallError::Cut { host, problem }.into());
            }
            asked => asked?,
        };
        match starts_at(response.status(), response.headers()) {
            Some(start) if start == from => {}
            // who knows no ranges sends all of it
            Some(0) => self.restart(part)?,
            _ => return Err(odd(&file.address, "it sends another part than was asked for").into()),
        }
        let mut body = response.into_body();
        let cut = |problem: String| CallError::Cut {
            host: host(&file.address),
            problem,
        };
        loop {
            let next = tokio::time::timeout(SILENCE, body.frame()).await;
            let next = next.map_err(|_| CallError::Silent {
                host: host(&file.address),
                seconds: SILENCE.as_secs(),
            })?;
            let Some(frame) = next else { break };
            let frame = frame.map_err(|error| cut(deepest(&error)))?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if !part.has_room(piece.len()) {
                return Err(odd(&file.address, "it sends more than it said").into());
            }
            part.push(&piece)?;
            self.tally.add(piece.len() as u64);
        }
        match part.is_full() {
            true => Ok(()),
            false => Err(cut("it ended before the file did".to_owned()).into()),
        }
    }

    fn restart(&self, part: &mut Part) -> std::io::Result<()> {
        self.tally.take_back(part.length());
        part.restart()
    }
}

/// The first byte of an answer's content; none where it does not say so.
fn starts_at(status: StatusCode, headers: &HeaderMap) -> Option<u64> {
    if status != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    start.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_where_it_begins() {
        let of = |status, range: &'static str| {
            let value = range.parse().expect("a header");
            starts_at(status, &HeaderMap::from_iter([(CONTENT_RANGE, value)]))
        };
        assert_eq!(of(StatusCode::PARTIAL_CONTENT, "bytes 10-19/20"), Some(10));
        assert_eq!(of(StatusCode::PARTIAL_CONTENT, "bytes */20"), None);
        assert_eq!(of(StatusCode::PARTIAL_CONTENT, "lines 1-2/3"), None);
        assert_eq!(of(StatusCode::OK, "bytes 10-19/20"), Some(0));
    }
}

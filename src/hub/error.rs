//! Why a model of the hub cannot be had, in sentences that say what to do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::client::CallError;
use super::select::NoCheckpoint;

/// Why a model of the hub cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Something like a name.
    #[error(
        "`{given}` is no folder or file here, and no model of a hub as in ORG/NAME, \
         ORG/NAME@REVISION or ORG/NAME:FILE.gguf: {problem}"
    )]
    Name {
        /// What was given.
        given: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An environment variable that cannot be used.
    #[error("the environment variable {name} cannot be used: {problem}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No such model, or none that the caller may see: the hub does not say which.
    #[error(
        "`{model}` is no folder here, and {hub} shows no such model: it is misspelt, or private \
         and {asker}"
    )]
    NotFound {
        /// What was asked for.
        model: String,
        /// Who was asked.
        hub: String,
        /// How that may be helped.
        asker: String,
    },
    /// A model without such a revision.
    #[error("{hub} has the model `{model}`, but no branch, tag or commit `{revision}` of it")]
    NoRevision {
        /// The model.
        model: String,
        /// What was asked for.
        revision: String,
        /// Who was asked.
        hub: String,
    },
    /// A model whose terms must be accepted.
    #[error("the model `{model}` is gated: accept its terms at {hub}/{model}, and {asker}")]
    Gated {
        /// The model.
        model: String,
        /// Whose it is.
        hub: String,
        /// How the token may be mended.
        asker: String,
    },
    /// A token that is none.
    #[error("{hub} does not accept the token of {from}; set HF_TOKEN to one that is valid")]
    Token {
        /// Who was asked.
        hub: String,
        /// Where the token was found.
        from: String,
    },
    /// Nothing may be asked, and not enough is here.
    #[error(
        "`{model}` is no folder here, and with HF_HUB_OFFLINE nothing is fetched; {there}: fetch it \
         once without, or copy it there"
    )]
    Offline {
        /// What was asked for.
        model: String,
        /// What of it is here, in words.
        there: String,
    },
    /// The hub does not answer, and not enough is here.
    #[error("`{model}` is no folder here, and cannot be asked for at {hub}; {there}")]
    Away {
        /// What was asked for.
        model: String,
        /// Who was asked.
        hub: String,
        /// What of it is here, in words.
        there: String,
        /// Why there is no answer.
        #[source]
        source: Box<CallError>,
    },
    /// The hub refuses, or answers nonsense.
    #[error("the model `{model}` cannot be fetched")]
    Model {
        /// What was asked for.
        model: String,
        /// Why not.
        #[source]
        source: Box<CallError>,
    },
    /// A file that does not come.
    #[error("{file} of the model `{model}` cannot be fetched{}", after(source))]
    File {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Why not.
        #[source]
        source: Box<CallError>,
    },
    /// A repository that cannot be served.
    #[error("the model `{model}` {problem}")]
    NoCheckpoint {
        /// The model.
        model: String,
        /// What it has instead; a predicate.
        problem: NoCheckpoint,
    },
    /// The disk is full.
    #[error(
        "no space is left for {}; what was fetched stays for the next run: make space, or let \
         HF_HUB_CACHE name a folder on another disk",
        path.display()
    )]
    Full {
        /// What was written.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The cache cannot be read or written.
    #[error("the cache of fetched models cannot be used: {}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Nothing can be asked at all.
    #[error("fetching cannot start")]
    Start(#[source] io::Error),
}

/// What to do about a file that did not come.
fn after(failure: &CallError) -> &'static str {
    match failure.may_pass() {
        true => "; the same command goes on with it",
        false => "",
    }
}

impl HubError {
    /// A file or folder of the cache that cannot be read or written.
    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path, source },
            _ => Self::Disk { path, source },
        }
    }
}

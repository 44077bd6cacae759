//! Why a policy was not changed.

use super::gate::GateFinding;
use crate::registry::RegistryError;
use crate::service::error::{LoadError, RequestError};

/// A change of a policy that was refused or failed. What was live still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromotionError {
    /// The server has no data folder.
    #[error("this server keeps no checkpoints; start it with `serve`, which has a data folder")]
    NoRegistry,
    /// A field whose value is out of its range or of the wrong form.
    #[error("`{param}` {problem}")]
    Invalid {
        /// The field at fault.
        param: &'static str,
        /// What it must be, and what it is.
        problem: String,
    },
    /// No such policy.
    #[error("no policy is named `{0}`; GET /admin/v1/policies lists them")]
    UnknownPolicy(String),
    /// The checkpoint is not there, or not for this policy.
    #[error("the policy `{policy}` has no checkpoint {id}; GET /admin/v1/policies lists them")]
    UnknownCheckpoint {
        /// The policy.
        policy: String,
        /// The id.
        id: String,
    },
    /// Somebody else changed the policy meanwhile.
    #[error(
        "the policy `{policy}` is of version {found}, expected {expected}; read it again and \
         decide anew"
    )]
    VersionMismatch {
        /// The policy.
        policy: String,
        /// The version it has.
        found: i64,
        /// The version that the caller knows.
        expected: i64,
    },
    /// The checkpoint answers already.
    #[error("the checkpoint {id} is live already")]
    LiveAlready {
        /// The id.
        id: String,
    },
    /// There is nothing to go back to.
    #[error("the policy `{policy}` has no version before the live one")]
    NothingBefore {
        /// The policy.
        policy: String,
    },
    /// The policy cannot be removed.
    #[error("the policy `{policy}` cannot be removed: {why}")]
    Stays {
        /// The policy.
        policy: String,
        /// What it is needed for.
        why: &'static str,
    },
    /// The evaluation gate is closed.
    #[error("the evaluation gate refuses this checkpoint: {}", refusals(.0))]
    Gate(Vec<GateFinding>),
    /// The checkpoint's files are not as they were written, or cannot be read.
    #[error("the checkpoint cannot be used")]
    Registry(#[from] RegistryError),
    /// The checkpoint does not fit the model.
    #[error("the checkpoint cannot be served over this model")]
    Unusable(#[source] Box<LoadError>),
    /// The checkpoint was loaded and gives no token.
    #[error("the checkpoint was loaded, but answers nothing")]
    Silent(#[source] Box<RequestError>),
    /// The fresh evaluation could not be made.
    #[error("the evaluation failed: {0}")]
    Evaluation(String),
}

fn refusals(findings: &[GateFinding]) -> String {
    let failed = findings.iter().filter(|finding| !finding.passed);
    let texts: Vec<&str> = failed.map(|finding| finding.says.as_str()).collect();
    texts.join("; ")
}

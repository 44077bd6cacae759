//! Why a job paused or failed, in words its owner can act on.

use serde::{Deserialize, Serialize};

/// Why a job does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTrouble {
    /// A stable word to branch on, for example `no_space`.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
    /// The setting at fault, where there is one.
    pub param: Option<String>,
}

impl JobTrouble {
    /// A trouble with no setting at fault.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            param: None,
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

//! What a hub's refusal means, by its status and its own word for it (`X-Error-Code`).

use super::client::{CallError, Client};
use super::error::HubError;
use super::name::HubName;
use super::path::RepoPath;

/// Why a model cannot be had, after the hub refused to describe it.
pub(super) fn of_model(failure: CallError, client: &Client, name: &HubName) -> HubError {
    let (model, hub) = (name.repository.clone(), client.endpoint().to_owned());
    let (status, code) = match &failure {
        CallError::Refused { status, code, .. } => (*status, code.as_deref()),
        _ => (0, None),
    };
    if let Some(about_asker) = of_asker(&failure, client, name) {
        return about_asker;
    }
    match (status, code) {
        (_, Some("RevisionNotFound")) => HubError::NoRevision {
            model,
            revision: name.revision.clone(),
            hub,
        },
        (401 | 404, None | Some("RepoNotFound")) => HubError::NotFound {
            model,
            hub,
            asker: match client.token() {
                None => "HF_TOKEN is not set to a token that may read it".to_owned(),
                Some(token) => format!("the token of {} may not read it", token.from),
            },
        },
        _ => HubError::Model {
            model: name.to_string(),
            source: Box::new(failure),
        },
    }
}

/// Why a file of a model cannot be had.
pub(super) fn of_file(
    failure: CallError,
    client: &Client,
    name: &HubName,
    file: &RepoPath,
) -> HubError {
    of_asker(&failure, client, name).unwrap_or_else(|| HubError::File {
        model: name.to_string(),
        file: file.to_string(),
        source: Box::new(failure),
    })
}

/// Where it is about who asks.
fn of_asker(failure: &CallError, client: &Client, name: &HubName) -> Option<HubError> {
    let CallError::Refused {
        status,
        code,
        reason,
        ..
    } = failure
    else {
        return None;
    };
    let hub = client.endpoint().to_owned();
    let from = client.token().map(|token| token.from.clone());
    let reason = reason.as_deref().unwrap_or_default();
    match (code.as_deref(), from) {
        (Some("GatedRepo"), from) => Some(HubError::Gated {
            model: name.repository.clone(),
            hub,
            asker: match from {
                None => "set HF_TOKEN to a token of the account that did".to_owned(),
                Some(from) => format!("check that the token of {from} is of the account that did"),
            },
        }),
        // of a private model the hub says 401 too, but not in these words
        (_, Some(from)) if *status == 401 && reason.starts_with("Invalid credentials") => {
            Some(HubError::Token { hub, from })
        }
        _ => None,
    }
}

//! What a hub's refusal means, by its status and its own word for it (`X-Error-Code`).

use super::client::{CallError, Client};
use super::error::HubError;
use super::name::HubName;

/// The refusal in words, where it is about the model and who asks for it; else the failure back.
pub(super) fn meaning(
    failure: Box<CallError>,
    client: &Client,
    name: &HubName,
) -> Result<HubError, Box<CallError>> {
    let CallError::Refused {
        status,
        code,
        reason,
        ..
    } = &*failure
    else {
        return Err(failure);
    };
    let (model, hub) = (name.repository.clone(), client.endpoint().to_owned());
    let from = client.token().map(|token| token.from.clone());
    let reason = reason.as_deref().unwrap_or_default();
    Ok(match (status, code.as_deref(), from) {
        (_, Some("GatedRepo"), from) => HubError::Gated {
            model,
            hub,
            asker: match from {
                None => "set HF_TOKEN to a token of the account that did".to_owned(),
                Some(from) => format!("check that the token of {from} is of the account that did"),
            },
        },
        (_, Some("RevisionNotFound"), _) => HubError::NoRevision {
            model,
            revision: name.revision.clone(),
            hub,
        },
        // the hub says 401 of a private model too, but not in these words
        (401, _, Some(from)) if reason.starts_with("Invalid credentials") => {
            HubError::Token { hub, from }
        }
        (401 | 404, None | Some("RepoNotFound"), from) => HubError::NotFound {
            model,
            hub,
            asker: match from {
                None => "HF_TOKEN is not set to a token that may read it".to_owned(),
                Some(from) => format!("the token of {from} may not read it"),
            },
        },
        _ => return Err(failure),
    })
}

//! Pages as OpenAI's API has them: `after` a cursor, at most `limit`, newest first.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::ApiError;

/// Most entries of a page.
pub(super) const MAX_LIMIT: u32 = 1000;

/// A page of something.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// Always `list`.
    #[schema(example = "list")]
    pub(super) object: &'static str,
    /// The entries.
    pub(super) data: Vec<T>,
    /// Whether there are more; ask on with `after` = the last id.
    pub(super) has_more: bool,
    /// Id of the first of this page.
    pub(super) first_id: Option<String>,
    /// Id of the last of this page.
    pub(super) last_id: Option<String>,
}

impl<T> Page<T> {
    pub(super) fn new(data: Vec<T>, has_more: bool, id: impl Fn(&T) -> &str) -> Self {
        Self {
            object: "list",
            first_id: data.first().map(|entry| id(entry).to_owned()),
            last_id: data.last().map(|entry| id(entry).to_owned()),
            data,
            has_more,
        }
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Entries behind the one of this id.
    pub(super) after: Option<String>,
    /// How many, 1 to 1000; 20 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

impl PageQuery {
    pub(super) fn limit(&self) -> Result<u32, ApiError> {
        checked_limit(self.limit)
    }

    /// Reads what is left of a query whose other pairs a route has taken; `takes` says what all
    /// may be.
    pub(super) fn of_pairs(pairs: Vec<(String, String)>, takes: &str) -> Result<Self, ApiError> {
        let refused = |problem: String| {
            let message = format!("the query takes {takes}: {problem}");
            ApiError::invalid("invalid_value", message)
        };
        let mut query = Self {
            after: None,
            limit: None,
        };
        for (name, value) in pairs {
            let is_first = match name.as_str() {
                "after" => query.after.replace(value).is_none(),
                "limit" => {
                    let limit = value.parse();
                    let limit = limit.map_err(|_| refused("`limit` is no number".to_owned()))?;
                    query.limit.replace(limit).is_none()
                }
                _ => {
                    let name: String = name.chars().take(80).collect();
                    return Err(refused(format!("`{name}` is none of them")));
                }
            };
            if !is_first {
                return Err(refused(format!("`{name}` stands twice")));
            }
        }
        Ok(query)
    }
}

pub(super) fn checked_limit(limit: Option<u32>) -> Result<u32, ApiError> {
    let limit = limit.unwrap_or(20);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    let message = format!("`limit` must be from 1 to {MAX_LIMIT}, got {limit}");
    Err(ApiError::invalid("invalid_value", message).with_param("limit"))
}

/// Reads a query, or says what it may hold.
pub(super) fn read<T>(query: Result<Query<T>, QueryRejection>, takes: &str) -> Result<T, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        let message = format!("the query takes {takes}: {}", rejection.body_text());
        ApiError::invalid("invalid_value", message)
    })?;
    Ok(query)
}

/// A cursor that is the id of something; `prefix` is what such ids begin with.
pub(super) fn cursor<'a>(
    after: Option<&'a str>,
    prefix: &str,
) -> Result<Option<&'a str>, ApiError> {
    let plain = |id: &str| {
        id.strip_prefix(prefix)
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
    };
    match after {
        Some(id) if !plain(id) => {
            let id: String = id.chars().take(80).collect();
            let message = format!("`after` must be an id that begins with `{prefix}`, got `{id}`");
            Err(ApiError::invalid("invalid_value", message).with_param("after"))
        }
        after => Ok(after),
    }
}

/// A cursor `PREFIX-DIGITS-NUMBER` of one job; returns its number.
pub(super) fn numbered_cursor(
    after: Option<&str>,
    prefix: &str,
    job: &str,
) -> Result<Option<i64>, ApiError> {
    let Some(after) = after else {
        return Ok(None);
    };
    match number_of(after, prefix, job) {
        Some(number) => Ok(Some(number)),
        None => {
            let after: String = after.chars().take(80).collect();
            let message = format!("`after` must be the id of an entry of this list, got `{after}`");
            Err(ApiError::invalid("invalid_value", message).with_param("after"))
        }
    }
}

/// The number of an id that `numbered_id` made.
pub(super) fn number_of(id: &str, prefix: &str, job: &str) -> Option<i64> {
    id.strip_prefix(&numbered_id(prefix, job, ""))?.parse().ok()
}

/// Ids of what a job has: the prefix, the job's own digits, a number.
pub(super) fn numbered_id(prefix: &str, job: &str, number: impl std::fmt::Display) -> String {
    let digits = job.strip_prefix("ftjob-").unwrap_or(job);
    format!("{prefix}-{digits}-{number}")
}

/// The `{id}` of a path, or all its ids. What is no id is left to the service, which knows them.
pub(super) struct IdPath<T = String>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for IdPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|_| {
                let message = "the id in the path is not valid UTF-8";
                ApiError::invalid("invalid_value", message).with_param("id")
            })?;
        Ok(Self(id))
    }
}

//! `GET`, `PUT`, `DELETE /v1/profiles/{id}` and `GET /v1/profiles`: weights with a name.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::body::JsonBody;
use super::error::{ApiError, ErrorBody};
use super::fields::refuse_rest;
use super::weights::{WeightsField, WideWeights};
use crate::service::{App, MAX_PAGE, Profile, ProfileInput};

/// Weights with a name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Profile)]
pub(super) struct ProfileBody {
    /// What requests name it by.
    #[schema(example = "cautious")]
    id: String,
    /// Always `profile`.
    #[schema(example = "profile")]
    object: &'static str,
    /// Its weights, as they were written; normalised where they are used.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    objective_weights: WideWeights,
    /// What it is for.
    description: String,
    /// 1 when it is new, one more with each change; also the `etag`.
    version: i64,
    /// How many comparisons it has learned from since its weights were last set by hand.
    comparisons: i64,
    /// Seconds since 1970.
    created_at: i64,
    /// Seconds since 1970.
    updated_at: i64,
}

impl From<Profile> for ProfileBody {
    fn from(profile: Profile) -> Self {
        Self {
            id: profile.id,
            object: "profile",
            objective_weights: WideWeights(profile.weights),
            description: profile.description,
            version: profile.version,
            comparisons: profile.comparisons,
            created_at: profile.created_at,
            updated_at: profile.updated_at,
        }
    }
}

/// What a profile shall be.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PutProfile {
    /// Weights by objective, at least one of them above 0. They are held against a policy's
    /// objectives when they are used.
    #[schema(value_type = std::collections::BTreeMap<String, f64>, required = true)]
    objective_weights: Option<WeightsField>,
    /// What it is for; up to 1000 characters.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// Change it only where it is of this version; 0: only where it does not exist. The header
    /// `if-match` says the same.
    #[schema(minimum = 0)]
    expected_version: Option<i64>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// A page of profiles.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProfileList {
    /// Always `list`.
    #[schema(example = "list")]
    object: &'static str,
    /// The profiles, by id.
    data: Vec<ProfileBody>,
    /// Whether there are more; ask on with `after` = the last id.
    has_more: bool,
    /// Id of the first of this page.
    first_id: Option<String>,
    /// Id of the last of this page.
    last_id: Option<String>,
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProfileDeleted {
    /// The profile's id.
    id: String,
    /// Always `profile.deleted`.
    #[schema(example = "profile.deleted")]
    object: &'static str,
    /// Always true.
    deleted: bool,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Profiles after this id.
    after: Option<String>,
    /// How many, 1 to 100; 20 by default.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The `{id}` of a path. What is no profile's id is left to the service, which knows them.
pub(super) struct ProfileId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for ProfileId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| {
                let message = "the profile's id in the path is not valid UTF-8";
                ApiError::invalid("invalid_value", message).with_param("id")
            })?;
        Ok(Self(id))
    }
}

/// List the profiles.
#[utoipa::path(
    get,
    path = "/v1/profiles",
    operation_id = "list_profiles",
    tag = "profiles",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of profiles, by id.", body = ProfileList),
        (status = 400, description = "A query that cannot be used.", body = ErrorBody),
    )
)]
pub(super) async fn list_profiles(
    State(app): State<Arc<App>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<ProfileList>, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        let message = format!(
            "the query takes `after` and `limit`: {}",
            rejection.body_text()
        );
        ApiError::invalid("invalid_value", message)
    })?;
    let limit = query.limit.unwrap_or(20);
    if !(1..=MAX_PAGE).contains(&limit) {
        let message = format!("`limit` must be from 1 to {MAX_PAGE}, got {limit}");
        return Err(ApiError::invalid("invalid_value", message).with_param("limit"));
    }
    // no id holds a NUL, and PostgreSQL takes no text that does
    if query.after.as_ref().is_some_and(|id| id.contains('\0')) {
        let message = "`after` must be the id of a profile, got one with a NUL";
        return Err(ApiError::invalid("invalid_value", message).with_param("after"));
    }
    let (page, has_more) = app.profiles(query.after.as_deref(), limit).await?;
    Ok(Json(ProfileList {
        object: "list",
        first_id: page.first().map(|profile| profile.id.clone()),
        last_id: page.last().map(|profile| profile.id.clone()),
        data: page.into_iter().map(ProfileBody::from).collect(),
        has_more,
    }))
}

/// Read one profile.
#[utoipa::path(
    get,
    path = "/v1/profiles/{id}",
    operation_id = "get_profile",
    tag = "profiles",
    params(("id" = String, Path, description = "The profile's id.")),
    responses(
        (status = 200, description = "The profile.", body = ProfileBody,
         headers(("etag" = String, description = "Its version, in quotes."))),
        (status = 400, description = "An id that cannot be read.", body = ErrorBody),
        (status = 404, description = "No such profile.", body = ErrorBody),
    )
)]
pub(super) async fn get_profile(
    State(app): State<Arc<App>>,
    ProfileId(id): ProfileId,
) -> Result<Response, ApiError> {
    Ok(tagged(StatusCode::OK, app.profile(&id).await?))
}

/// Make or change a profile.
#[utoipa::path(
    put,
    path = "/v1/profiles/{id}",
    operation_id = "put_profile",
    tag = "profiles",
    params(
        ("id" = String, Path, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$",
         description = "1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, the first a letter or \
                        digit."),
        ("if-match" = Option<String>, Header,
         description = "The `etag` it must have; `*` is any."),
    ),
    request_body = PutProfile,
    responses(
        (status = 200, description = "It was changed.", body = ProfileBody,
         headers(("etag" = String, description = "Its version, in quotes."))),
        (status = 201, description = "It is new.", body = ProfileBody,
         headers(("etag" = String, description = "Its version, in quotes."))),
        (status = 400, description = "It cannot be so.", body = ErrorBody),
        (status = 409, description = "It is not of the version expected.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
    )
)]
pub(super) async fn put_profile(
    State(app): State<Arc<App>>,
    ProfileId(id): ProfileId,
    headers: HeaderMap,
    JsonBody(request): JsonBody<PutProfile>,
) -> Result<Response, ApiError> {
    refuse_rest(&request.rest)?;
    let weights = request.objective_weights.ok_or_else(|| {
        let message = "`objective_weights` is missing; it holds the profile's weights, as in \
                       {\"helpfulness\": 0.7}";
        ApiError::invalid("missing_field", message).with_param("objective_weights")
    })?;
    let input = ProfileInput {
        id,
        weights: weights.0,
        description: request.description.unwrap_or_default(),
        expected_version: expected(&headers, request.expected_version)?,
    };
    let (profile, new) = app.put_profile(input).await?;
    let status = match new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(tagged(status, profile))
}

/// Remove a profile and the comparisons it learned from.
#[utoipa::path(
    delete,
    path = "/v1/profiles/{id}",
    operation_id = "delete_profile",
    tag = "profiles",
    params(
        ("id" = String, Path, description = "The profile's id."),
        ("if-match" = Option<String>, Header,
         description = "The `etag` it must have; `*` is any."),
    ),
    responses(
        (status = 200, description = "It is gone.", body = ProfileDeleted),
        (status = 400, description = "A header that cannot be used.", body = ErrorBody),
        (status = 404, description = "No such profile.", body = ErrorBody),
        (status = 409, description = "It is not of the version expected.", body = ErrorBody),
    )
)]
pub(super) async fn delete_profile(
    State(app): State<Arc<App>>,
    ProfileId(id): ProfileId,
    headers: HeaderMap,
) -> Result<Json<ProfileDeleted>, ApiError> {
    app.delete_profile(&id, expected(&headers, None)?).await?;
    Ok(Json(ProfileDeleted {
        id,
        object: "profile.deleted",
        deleted: true,
    }))
}

fn tagged(status: StatusCode, profile: Profile) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{}\"", profile.version));
    let mut response = (status, Json(ProfileBody::from(profile))).into_response();
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The version that must be there, from the body or from `if-match`.
fn expected(headers: &HeaderMap, stated: Option<i64>) -> Result<Option<i64>, ApiError> {
    let refuse = |problem: String| {
        ApiError::invalid("invalid_value", format!("`if-match` {problem}")).with_param("if-match")
    };
    let tag = match headers.get(header::IF_MATCH).map(HeaderValue::to_str) {
        None | Some(Ok("*")) => return Ok(stated),
        Some(Ok(tag)) => tag.trim(),
        Some(Err(_)) => return Err(refuse("must be plain ASCII".to_owned())),
    };
    let version = tag
        .strip_prefix('"')
        .and_then(|tag| tag.strip_suffix('"'))
        .and_then(|version| version.parse::<i64>().ok())
        .ok_or_else(|| {
            let tag: String = tag.chars().take(40).collect();
            refuse(format!(
                "must be the `etag` of a profile, as in \"3\", got {tag}"
            ))
        })?;
    match stated {
        Some(other) if other != version => Err(refuse(format!(
            "({version}) and `expected_version` ({other}) must not differ; send one of them"
        ))),
        _ => Ok(Some(version)),
    }
}

//! `GET /admin/v1/fine_tuning/jobs/{id}/events`: a page of what happened, or a stream of what
//! happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::page::{IdPath, Page, checked_limit, numbered_cursor, numbered_id, read};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::sse::json;
use crate::service::{App, EventInfo, Phase, RequestError};

const PREFIX: &str = "ftevent";
/// Pause before new events are asked for again.
const POLL: Duration = Duration::from_millis(300);
/// Events that are read at once for a stream.
const BATCH: u32 = 200;
/// Proxies cut streams that are silent for a minute; a comment keeps them open.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Something that happened to a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FineTuningEvent)]
pub(super) struct EventBody {
    /// Its id.
    #[schema(example = "ftevent-0193-1")]
    id: String,
    /// Always `fine_tuning.job.event`.
    #[schema(example = "fine_tuning.job.event")]
    object: &'static str,
    /// Seconds since 1970.
    created_at: i64,
    /// `info`, `warn` or `error`.
    level: String,
    /// A sentence.
    message: String,
    /// `message` or `metrics`.
    #[serde(rename = "type")]
    kind: String,
    /// The numbers of a step.
    #[schema(value_type = Option<Object>)]
    data: Value,
}

impl EventBody {
    fn of(job: &str, event: EventInfo) -> Self {
        Self {
            id: numbered_id(PREFIX, job, event.seq),
            object: "fine_tuning.job.event",
            created_at: event.created_at,
            level: event.level,
            message: event.message,
            kind: event.kind,
            data: event.data,
        }
    }
}

/// Which events, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Events behind the one of this id: older ones in a page, newer ones in a stream.
    after: Option<String>,
    /// How many in a page, 1 to 1000; 20 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// A stream of server-sent events instead: all events in the order in which they happened,
    /// then each as it happens, `[DONE]` when the job is over.
    #[serde(default)]
    stream: bool,
}

/// List the events of a job, newest first, or stream them as they happen.
#[utoipa::path(
    get,
    path = "/admin/v1/fine_tuning/jobs/{id}/events",
    operation_id = "list_job_events",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id."), EventsQuery),
    responses(
        (status = 200, description = "A page of events, or a stream of them.", content(
            (Page<EventBody> = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 400, description = "A query that cannot be used.", body = ErrorBody),
        (status = 404, description = "No such job.", body = ErrorBody),
    )
)]
pub(super) async fn list_job_events(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = read(query, "`after`, `limit` and `stream`")?;
    let after = numbered_cursor(query.after.as_deref(), PREFIX, &id)?;
    let limit = checked_limit(query.limit)?;
    if query.stream {
        // refused before the 200, where there is no such job
        app.job(&id).await?;
        return Ok(tail(app, id, after.unwrap_or(0)));
    }
    let (events, more) = app.job_events(&id, after, limit).await?;
    let events = events.into_iter().map(|event| EventBody::of(&id, event));
    Ok(Json(Page::new(events.collect(), more, |event| &event.id)).into_response())
}

fn tail(app: Arc<App>, job: String, after: i64) -> Response {
    let tail = Tail {
        ending: app.lifecycle().reached(Phase::Draining).boxed(),
        app,
        job,
        after,
        ready: VecDeque::new(),
        over: false,
    };
    let ping = KeepAlive::new().interval(PING_EVERY).text("ping");
    let mut response = Sse::new(tail.events()).keep_alive(ping).into_response();
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}

/// A job's events on their way to the wire.
struct Tail {
    app: Arc<App>,
    job: String,
    /// The place of the last event that was sent.
    after: i64,
    /// Resolves when the server wants to end.
    ending: BoxFuture<'static, ()>,
    ready: VecDeque<String>,
    over: bool,
}

impl Tail {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut tail| async move {
            let data = tail.next().await?;
            Some((Ok(Event::default().data(data)), tail))
        })
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(data);
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.read().await {
                self.ready.push_back(json(&error.body()));
                self.over = true;
            }
        }
    }

    async fn read(&mut self) -> Result<(), ApiError> {
        let found = self.app.next_job_events(&self.job, self.after, BATCH).await;
        let (events, last) = found?;
        for event in events {
            self.after = event.seq;
            self.ready.push_back(json(&EventBody::of(&self.job, event)));
        }
        if last {
            self.ready.push_back("[DONE]".to_owned());
            self.over = true;
        } else if self.ready.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = &mut self.ending => return Err(RequestError::Draining.into()),
            }
        }
        Ok(())
    }
}

//! Tells an answer, whole or as a stream, in a route's own words.

use std::time::Duration;

use axum::response::Response;

use super::envelope::RequestId;
use super::error::ApiError;
use super::sse::stream_answer;
use super::weights::steering_headers;
use crate::service::{Answer, AnswerEvent, RequestError, WholeAnswer};

/// How long a stream waits for its first token before it commits to 200, so that what fails at
/// once fails with a proper status; after that pings keep the connection open.
const FIRST_TOKEN_PATIENCE: Duration = Duration::from_secs(5);

/// The shapes of one route.
pub(super) trait Wording: Send + 'static {
    /// The whole answer.
    fn whole(self, answer: &Answer, whole: WholeAnswer) -> Response;
    /// What a stream says before the first token, as JSON.
    fn opening(&mut self) -> Vec<String>;
    /// What a stream says of an event, as JSON; the last event closes the answer.
    fn word(&mut self, answer: &Answer, event: AnswerEvent) -> Vec<String>;
}

/// Replies with an answer. Whoever drops the reply cancels the answer.
pub(super) async fn tell<W: Wording>(
    mut answer: Answer,
    as_stream: bool,
    request_id: RequestId,
    wording: W,
) -> Result<Response, ApiError> {
    let steered = &answer.steered;
    let headers = steering_headers(&steered.policy.version, steered.steering.as_ref());
    if as_stream {
        if let Ok(first) = tokio::time::timeout(FIRST_TOKEN_PATIENCE, answer.ready()).await {
            first?;
        }
        return Ok(stream_answer(answer, wording, request_id, headers));
    }
    let ending = answer.ending();
    let whole = tokio::select! {
        whole = answer.collect() => whole?,
        () = ending => return Err(RequestError::Draining.into()),
    };
    let mut response = wording.whole(&answer, whole);
    response.headers_mut().extend(headers);
    Ok(response)
}

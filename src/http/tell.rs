//! Tells answers, whole or as a stream, in a route's own words.

use std::time::Duration;

use axum::response::Response;

use super::asking::Caller;
use super::error::ApiError;
use super::sse::stream_answers;
use super::weights::steering_headers;
use crate::service::{AnswerToken, Answers, RequestError, WholeAnswer};
use crate::types::{FinishReason, Usage};

/// How long a stream waits for its first token before it commits to 200, so that what fails at
/// once fails with a proper status; after that pings keep the connection open.
const FIRST_TOKEN_PATIENCE: Duration = Duration::from_secs(5);

/// The shapes of one route. `index` is an answer's place among those of the request.
pub(super) trait Wording: Send + 'static {
    /// All answers, whole, and what they cost together.
    fn whole(self, answers: &Answers, whole: Vec<WholeAnswer>, usage: Usage) -> Response;
    /// What a stream says before the first token, as JSON.
    fn opening(&mut self) -> Vec<String>;
    /// What a stream says of a piece of an answer, as JSON.
    fn piece(&mut self, answers: &Answers, index: usize, piece: Piece) -> Vec<String>;
    /// What a stream says at an answer's end, as JSON. `usage` is there with the last one.
    fn end(&mut self, index: usize, reason: FinishReason, usage: Option<Usage>) -> Vec<String>;
}

/// A piece of an answer.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) tokens: Vec<AnswerToken>,
}

/// Replies with answers. Whoever drops the reply cancels them.
pub(super) async fn tell<W: Wording>(
    mut answers: Answers,
    as_stream: bool,
    caller: Caller,
    wording: W,
) -> Result<Response, ApiError> {
    let steered = &answers.steered;
    caller.account.answered_by(&steered.policy);
    let headers = steering_headers(&steered.policy.version, steered.steering.as_ref());
    if as_stream {
        if let Ok(first) = tokio::time::timeout(FIRST_TOKEN_PATIENCE, answers.ready()).await {
            first?;
        }
        return Ok(stream_answers(answers, wording, caller, headers));
    }
    let ending = answers.ending();
    let whole = tokio::select! {
        whole = answers.collect() => whole?,
        () = ending => return Err(RequestError::Draining.into()),
    };
    let usage = answers.usage().unwrap_or_default();
    caller.account.cost(usage);
    let mut response = wording.whole(&answers, whole, usage);
    response.headers_mut().extend(headers);
    Ok(response)
}

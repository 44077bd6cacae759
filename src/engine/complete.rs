//! Many completions at once, awaited whole: for rollouts and evaluation.

use crate::types::{FinishReason, TokenId};

use super::{EngineError, EngineHandle, GenerationRequest, TokenEvent, TokenStream};

/// A whole completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The tokens; where `reason` is `Stop` the last one is the stop token.
    pub tokens: Vec<TokenId>,
    /// Each token's log-probability under the raw logits.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub reason: FinishReason,
}

/// Generates every request and returns the completions in the order of the requests.
///
/// Blocks: not for use inside an async runtime. Waits for places as the queue drains, beside
/// whoever else uses the engine. The first failure is returned and cancels the rest.
pub fn complete_all<A: Send + Sync + 'static>(
    engine: &EngineHandle<A>,
    requests: Vec<GenerationRequest<A>>,
) -> Result<Vec<Completion>, EngineError> {
    complete_unless(engine, requests, &|| false)
}

/// As [`complete_all`], but asks `stop` after each token and a few times a second: once it says so,
/// every request is cancelled and [`EngineError::CalledOff`] returned.
pub fn complete_unless<A: Send + Sync + 'static>(
    engine: &EngineHandle<A>,
    requests: Vec<GenerationRequest<A>>,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Completion>, EngineError> {
    let streams = requests
        .into_iter()
        .map(|request| engine.submit_patiently(request, stop))
        .collect::<Result<Vec<_>, _>>()?;
    streams
        .into_iter()
        .map(|stream| collect(stream, stop))
        .collect()
}

fn collect(mut stream: TokenStream, stop: &dyn Fn() -> bool) -> Result<Completion, EngineError> {
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    loop {
        match stream.next_unless(stop)? {
            Some(TokenEvent::Token(token)) => {
                tokens.push(token.id);
                logprobs.push(token.logprob);
            }
            Some(TokenEvent::Finished { reason, .. }) => {
                return Ok(Completion {
                    tokens,
                    logprobs,
                    reason,
                });
            }
            Some(TokenEvent::Failed(error)) => return Err(error),
            None => return Err(EngineError::Stopped),
        }
    }
}

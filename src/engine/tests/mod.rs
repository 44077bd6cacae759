//! Tests of the engine as a whole, over a model whose every logit shows its history.

mod invariance;
mod lifecycle;
mod mock;

use std::sync::Arc;

use crate::types::{FinishReason, SamplingParams, TokenId, Usage};

use super::{EngineConfig, EngineError, EngineHandle, GenerationRequest, TokenEvent, TokenStream};
use mock::Mock;

fn start(mock: &Arc<Mock>, config: EngineConfig) -> EngineHandle<u64> {
    EngineHandle::start(Arc::clone(mock), config).unwrap()
}

fn request(prompt: &[TokenId], max_tokens: usize) -> GenerationRequest<u64> {
    let sampling = SamplingParams {
        max_tokens,
        seed: 11,
        ..SamplingParams::default()
    };
    GenerationRequest::new(prompt.to_vec(), sampling)
}

/// All that a stream told: tokens with the bits of their log-probabilities, and its end.
#[derive(Debug, Clone)]
struct Told {
    tokens: Vec<(TokenId, u32)>,
    end: Result<(FinishReason, Usage), EngineError>,
}

impl Told {
    fn ids(&self) -> Vec<TokenId> {
        self.tokens.iter().map(|&(id, _)| id).collect()
    }

    fn reason(&self) -> FinishReason {
        self.end.as_ref().unwrap().0
    }
}

fn listen(mut stream: TokenStream) -> Told {
    let mut tokens = Vec::new();
    loop {
        let end = match stream.blocking_next().unwrap() {
            TokenEvent::Token(token) => {
                tokens.push((token.id, token.logprob.to_bits()));
                continue;
            }
            TokenEvent::Finished { reason, usage } => Ok((reason, usage)),
            TokenEvent::Failed(error) => Err(error),
        };
        assert!(
            stream.blocking_next().is_none(),
            "nothing comes after the end"
        );
        return Told { tokens, end };
    }
}

/// What a request is told on an engine of its own.
fn alone(request: &GenerationRequest<u64>) -> Told {
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    listen(engine.submit(request.clone()).unwrap())
}

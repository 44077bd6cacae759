//! Tests of the engine as a whole, over a model whose every logit shows its history.

mod admission;
mod cache;
mod faults;
mod guidance;
mod invariance;
mod lifecycle;
mod mock;

use std::sync::Arc;

use crate::types::{
    ConstraintError, FinishReason, SamplingParams, TokenConstraint, TokenId, TokenSet, Usage,
};

use super::{
    EngineConfig, EngineError, EngineHandle, GenerationRequest, Guidance, TokenEvent, TokenStream,
};
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
    /// Prompt tokens that came from the cache; not part of `end`, as it depends on the company.
    cached: usize,
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
            TokenEvent::Finished { reason, usage } => {
                assert_eq!(usage.cached_tokens, stream.cached_tokens());
                assert!(usage.cached_tokens < usage.prompt_tokens);
                let cached_tokens = 0;
                Ok((
                    reason,
                    Usage {
                        cached_tokens,
                        ..usage
                    },
                ))
            }
            TokenEvent::Failed(error) => Err(error),
        };
        let cached = stream.cached_tokens();
        assert!(
            stream.blocking_next().is_none(),
            "nothing comes after the end"
        );
        return Told {
            tokens,
            cached,
            end,
        };
    }
}

/// What a request is told on an engine of its own.
fn alone(request: &GenerationRequest<u64>) -> Told {
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    listen(engine.submit(request.clone()).unwrap())
}

/// Every block is back: nobody runs, and none is held.
fn assert_blocks_are_back(engine: &EngineHandle<u64>) {
    // Streams that were dropped are noticed by the next iteration.
    while engine.stats().running + engine.stats().waiting > 0 {
        std::thread::yield_now();
    }
    let stats = engine.stats();
    assert_eq!((stats.blocks_used, stats.restarts), (0, 0));
    assert!(stats.blocks_cached <= stats.blocks_total);
}

/// Allows two tokens of three, which ones depends on all that came before.
#[derive(Debug, Clone, Default)]
struct TwoOfThree(u32);

impl TokenConstraint for TwoOfThree {
    fn allowed(&mut self, tokens: &mut TokenSet) -> Result<(), ConstraintError> {
        let allows = |token: &u32| !(token * 7).wrapping_add(self.0).is_multiple_of(3);
        (0..32)
            .filter(allows)
            .for_each(|token| tokens.insert(token));
        Ok(())
    }

    fn advance(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        self.0 = self.0.wrapping_mul(31).wrapping_add(token);
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn TokenConstraint> {
        Box::new(self.clone())
    }
}

//! The way into the engine: checks a request, takes a place for it, hands it over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::model::{BLOCK_TOKENS, LoraAdapter};
use crate::types::TokenId;

use super::event::{EVENT_CAPACITY, WakeOnDrop};
use super::faults::Supervisor;
use super::gate::{Bounds, Gate, Permit};
use super::{
    EngineConfig, EngineError, EngineMeters, EngineStats, GenerationRequest, StepModel, TokenStream,
};

/// A request on its way to the engine thread.
pub(super) struct Submission<A> {
    pub(super) request: GenerationRequest<A>,
    pub(super) events: mpsc::Sender<super::TokenEvent>,
    pub(super) permit: Permit,
    /// Where what goes wrong with it is logged.
    pub(super) span: tracing::Span,
}

/// A clonable way to the engine thread. When the last one is dropped, the thread finishes what it
/// was given and ends.
///
/// ```
/// # use std::{path::Path, sync::Arc};
/// # use steersman::engine::{EngineConfig, EngineHandle, GenerationRequest, TokenEvent};
/// # use steersman::{model::Decoder, types::SamplingParams};
/// let decoder = Arc::new(Decoder::load(Path::new("tests/fixtures/llama"))?);
/// let engine = EngineHandle::start(decoder, EngineConfig::default())?;
/// let sampling = SamplingParams { max_tokens: 8, ..SamplingParams::default() };
/// let mut stream = engine.submit(GenerationRequest::new(vec![1, 2, 3], sampling))?;
/// while let Some(event) = stream.blocking_next() {
///     match event {
///         TokenEvent::Token(token) => println!("{}", token.id),
///         TokenEvent::Finished { usage, .. } => assert_eq!(usage.completion_tokens, 8),
///         TokenEvent::Failed(error) => return Err(error.into()),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EngineHandle<A = LoraAdapter> {
    // Declared before the waker: the channel must be closed when the engine looks.
    submissions: SyncSender<Submission<A>>,
    waker: WakeOnDrop,
    thread: Arc<JoinHandle<()>>,
    alive: Arc<AtomicBool>,
    gate: Arc<Gate>,
    limits: Limits,
}

/// What a request has to fit.
#[derive(Debug, Clone, Copy)]
struct Limits {
    vocab_size: usize,
    context_length: usize,
    blocks: usize,
    max_batch_tokens: usize,
}

impl<A> Clone for EngineHandle<A> {
    fn clone(&self) -> Self {
        Self {
            submissions: self.submissions.clone(),
            waker: self.waker.clone(),
            thread: Arc::clone(&self.thread),
            alive: Arc::clone(&self.alive),
            gate: Arc::clone(&self.gate),
            limits: self.limits,
        }
    }
}

impl<A: Send + Sync + 'static> EngineHandle<A> {
    /// Starts the engine thread over a model.
    pub fn start<M>(model: Arc<M>, config: EngineConfig) -> Result<Self, EngineError>
    where
        M: StepModel<Adapter = A>,
    {
        config.validate()?;
        let capacity = config.max_sequences.saturating_add(config.queue_capacity);
        let bounds = Bounds {
            requests: capacity,
            waiting_tokens: config.max_queued_tokens,
        };
        let blocks = config.blocks(
            model.context_length(),
            model.token_bytes(),
            model.pool_bytes(),
        );
        let limits = Limits {
            vocab_size: model.vocab_size(),
            context_length: model.context_length().min(blocks * BLOCK_TOKENS),
            blocks,
            max_batch_tokens: config.budget(model.efficient_tokens()).all,
        };
        let gate = Arc::new(Gate::new(bounds));
        gate.publish(|stats| stats.blocks_total = blocks);
        // As many slots as permits, so that whoever holds a permit finds room.
        let (submissions, inbox) = sync_channel(capacity);
        let alive = Arc::new(AtomicBool::new(true));
        let supervisor = Supervisor {
            model,
            config,
            blocks,
            inbox,
            gate: Arc::clone(&gate),
            alive: Arc::clone(&alive),
        };
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || supervisor.supervise())
            .map_err(|source| EngineError::Spawn(Arc::new(source)))?;
        Ok(Self {
            submissions,
            waker: WakeOnDrop(thread.thread().clone()),
            thread: Arc::new(thread),
            alive,
            gate,
            limits,
        })
    }

    /// Hands a request over, or says at once why it cannot be served.
    pub fn submit(&self, request: GenerationRequest<A>) -> Result<TokenStream, EngineError> {
        let mut streams = self.submit_group(vec![request])?;
        streams.pop().ok_or(EngineError::Stopped)
    }

    /// Hands several requests over together: all are admitted or none is. Where their prompts are
    /// equal, their common part is computed once.
    pub fn submit_group(
        &self,
        requests: Vec<GenerationRequest<A>>,
    ) -> Result<Vec<TokenStream>, EngineError> {
        for request in &requests {
            self.check(request)?;
        }
        let permits = self.gate.try_enter(&prompt_tokens(&requests))?;
        requests
            .into_iter()
            .zip(permits)
            .map(|(request, permit)| self.hand_over(request, permit, EVENT_CAPACITY))
            .collect()
    }

    /// As [`EngineHandle::submit`], but waits for a place until `stop` says otherwise, and never
    /// pauses for its reader. The events of a whole completion are kept until they are read.
    pub(super) fn submit_patiently(
        &self,
        request: GenerationRequest<A>,
        stop: &dyn Fn() -> bool,
    ) -> Result<TokenStream, EngineError> {
        self.check(&request)?;
        let tokens = prompt_tokens(std::slice::from_ref(&request))[0];
        let permit = self.gate.enter(tokens, stop);
        let permit = permit.ok_or(EngineError::CalledOff)?;
        let whole = request.sampling.max_tokens.saturating_add(1).max(2);
        self.hand_over(request, permit, whole)
    }

    /// Whether one more request would be let in now. Whoever has work to do before it can submit,
    /// asks first, so that what must be refused is refused early.
    pub fn has_room(&self) -> Result<(), EngineError> {
        self.gate.has_room()
    }

    /// Whether the engine runs. After a fault it is false until the engine is rebuilt; what is
    /// submitted meanwhile waits for that.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire) && !self.thread.is_finished()
    }

    /// What the engine does now and has done so far.
    pub fn stats(&self) -> EngineStats {
        self.gate.stats()
    }

    /// What the engine measures.
    pub fn meters(&self) -> &EngineMeters {
        &self.gate.meters
    }

    /// Tokens that prompt and completion may have together: the model's context, or the whole cache
    /// where that is less.
    pub fn context_length(&self) -> usize {
        self.limits.context_length
    }

    /// How many tokens the model knows.
    pub fn vocab_size(&self) -> usize {
        self.limits.vocab_size
    }

    fn check(&self, request: &GenerationRequest<A>) -> Result<(), EngineError> {
        let neutral = request.guidance.as_ref().map(|guidance| &guidance.prompt);
        let prompts: Vec<&Vec<TokenId>> = std::iter::once(&request.prompt).chain(neutral).collect();
        let max_tokens = request.sampling.max_tokens;
        let mut blocks = 0;
        for prompt in &prompts {
            self.check_prompt(prompt, max_tokens)?;
            blocks += (prompt.len() + max_tokens).div_ceil(BLOCK_TOKENS);
        }
        if blocks > self.limits.blocks {
            return Err(EngineError::ContextOverflow {
                prompt_tokens: request.prompt.len(),
                max_tokens,
                limit: self.limits.blocks * BLOCK_TOKENS / prompts.len(),
            });
        }
        if prompts.len() > self.limits.max_batch_tokens {
            let problem = "max_batch_tokens is 1, expected at least 2 for guidance";
            return Err(EngineError::Config(problem.into()));
        }
        Ok(())
    }

    fn check_prompt(&self, prompt: &[TokenId], max_tokens: usize) -> Result<(), EngineError> {
        let Limits {
            vocab_size,
            context_length: limit,
            ..
        } = self.limits;
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt.len().saturating_add(max_tokens) > limit {
            return Err(EngineError::ContextOverflow {
                prompt_tokens: prompt.len(),
                max_tokens,
                limit,
            });
        }
        match prompt.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(EngineError::TokenOutOfVocabulary { token, vocab_size }),
            None => Ok(()),
        }
    }

    fn hand_over(
        &self,
        request: GenerationRequest<A>,
        permit: Permit,
        event_capacity: usize,
    ) -> Result<TokenStream, EngineError> {
        let (events, stream) = mpsc::channel(event_capacity);
        let progress = Arc::clone(permit.progress());
        self.submissions
            .try_send(Submission {
                request,
                events,
                permit,
                span: tracing::Span::current(),
            })
            .map_err(|refused| match refused {
                // Full cannot be: there are as many slots as permits.
                TrySendError::Full(_) | TrySendError::Disconnected(_) => EngineError::Stopped,
            })?;
        let engine = self.waker.0.clone();
        engine.unpark();
        Ok(TokenStream::new(stream, engine, progress))
    }
}

/// The prompt tokens that each request would have to wait with. Requests with equal prompts compute
/// them once, so the later ones bring none.
fn prompt_tokens<A>(requests: &[GenerationRequest<A>]) -> Vec<usize> {
    let known = |before: &[GenerationRequest<A>], request: &GenerationRequest<A>| {
        before.iter().any(|other| {
            other.prompt == request.prompt
                && other.cache_salt == request.cache_salt
                && other.adapter.as_ref().map(Arc::as_ptr)
                    == request.adapter.as_ref().map(Arc::as_ptr)
                && other.guidance.as_ref().map(|it| &it.prompt)
                    == request.guidance.as_ref().map(|it| &it.prompt)
        })
    };
    let tokens = requests.iter().enumerate().map(|(place, request)| {
        if known(&requests[..place], request) {
            return 0;
        }
        let neutral = request.guidance.as_ref().map_or(0, |it| it.prompt.len());
        request.prompt.len() + neutral
    });
    tokens.collect()
}

//! The way into the engine: checks a request, takes a place for it, hands it over.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::model::LoraAdapter;

use super::event::{EVENT_CAPACITY, WakeOnDrop};
use super::gate::{Gate, Permit};
use super::runner::Runner;
use super::{EngineConfig, EngineError, EngineStats, GenerationRequest, StepModel, TokenStream};

/// A request on its way to the engine thread.
pub(super) struct Submission<A> {
    pub(super) request: GenerationRequest<A>,
    pub(super) events: mpsc::Sender<super::TokenEvent>,
    /// Told before the first token.
    pub(super) cached_tokens: Arc<AtomicUsize>,
    pub(super) permit: Permit,
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
    gate: Arc<Gate>,
    vocab_size: usize,
    context_length: usize,
}

impl<A> Clone for EngineHandle<A> {
    fn clone(&self) -> Self {
        Self {
            submissions: self.submissions.clone(),
            waker: self.waker.clone(),
            thread: Arc::clone(&self.thread),
            gate: Arc::clone(&self.gate),
            vocab_size: self.vocab_size,
            context_length: self.context_length,
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
        let gate = Arc::new(Gate::new(capacity));
        // As many slots as permits, so that whoever holds a permit finds room.
        let (submissions, inbox) = sync_channel(capacity);
        let (vocab_size, context_length) = (model.vocab_size(), model.context_length());
        let runner = Runner::new(model, config, inbox, Arc::clone(&gate));
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || runner.run())
            .map_err(|source| EngineError::Spawn(Arc::new(source)))?;
        Ok(Self {
            submissions,
            waker: WakeOnDrop(thread.thread().clone()),
            thread: Arc::new(thread),
            gate,
            vocab_size,
            context_length,
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
        let capacity = self.gate.capacity();
        let permits = self
            .gate
            .try_enter(requests.len())
            .ok_or(EngineError::QueueFull { capacity })?;
        requests
            .into_iter()
            .zip(permits)
            .map(|(request, permit)| self.hand_over(request, permit, EVENT_CAPACITY))
            .collect()
    }

    /// As [`EngineHandle::submit`], but waits for a place, and never pauses for its reader. The
    /// events of a whole completion are kept until they are read.
    pub(super) fn submit_patiently(
        &self,
        request: GenerationRequest<A>,
    ) -> Result<TokenStream, EngineError> {
        self.check(&request)?;
        let permit = self.gate.enter();
        let whole = request.sampling.max_tokens.saturating_add(1).max(2);
        self.hand_over(request, permit, whole)
    }

    /// Whether the engine thread runs. A thread that has died never comes back: start another.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// What the engine does now and has done so far.
    pub fn stats(&self) -> EngineStats {
        self.gate.stats()
    }

    /// Tokens that prompt and completion may have together.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// How many tokens the model knows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn check(&self, request: &GenerationRequest<A>) -> Result<(), EngineError> {
        let (prompt, max_tokens) = (&request.prompt, request.sampling.max_tokens);
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt.len().saturating_add(max_tokens) > self.context_length {
            return Err(EngineError::ContextOverflow {
                prompt_tokens: prompt.len(),
                max_tokens,
                limit: self.context_length,
            });
        }
        match prompt
            .iter()
            .find(|&&token| token as usize >= self.vocab_size)
        {
            Some(&token) => Err(EngineError::TokenOutOfVocabulary {
                token,
                vocab_size: self.vocab_size,
            }),
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
        let cached_tokens = Arc::new(AtomicUsize::new(0));
        self.submissions
            .try_send(Submission {
                request,
                events,
                cached_tokens: Arc::clone(&cached_tokens),
                permit,
            })
            .map_err(|refused| match refused {
                TrySendError::Full(_) => EngineError::QueueFull {
                    capacity: self.gate.capacity(),
                },
                TrySendError::Disconnected(_) => EngineError::Stopped,
            })?;
        let engine = self.waker.0.clone();
        engine.unpark();
        Ok(TokenStream::new(stream, engine, cached_tokens))
    }
}

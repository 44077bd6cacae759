//! What a request hears from the engine, in order, and the stream it hears it through.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::types::{FinishReason, TokenId, Usage};

use super::{EngineError, Progress};

/// Events that wait for a slow reader before its sequence pauses.
pub(super) const EVENT_CAPACITY: usize = 32;
/// How often a thread that waits looks whether it shall go on waiting.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// A token that was drawn, with its place in the model's own distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledToken {
    /// The token.
    pub id: TokenId,
    /// Its natural log-probability under the raw logits: before temperature and truncation.
    pub logprob: f32,
    /// The likeliest tokens under the raw logits with their log-probabilities, likeliest first;
    /// empty unless the request asked for them.
    pub top: Vec<(TokenId, f32)>,
}

/// One step of a request's life. `Finished` and `Failed` are last.
#[derive(Debug, Clone)]
pub enum TokenEvent {
    /// The next token. A stop token is told too, right before `Finished`: it belongs to the
    /// completion's tokens, but not to its text.
    Token(SampledToken),
    /// The completion is whole.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
    /// The completion cannot go on. Other requests are not touched.
    Failed(EngineError),
}

/// The events of one request. Dropping it cancels the request within one iteration.
#[derive(Debug)]
pub struct TokenStream {
    // Declared before the waker: the channel must be closed when the engine looks.
    events: mpsc::Receiver<TokenEvent>,
    waker: WakeOnDrop,
    progress: Arc<Progress>,
    ended: bool,
}

impl TokenStream {
    pub(super) fn new(
        events: mpsc::Receiver<TokenEvent>,
        engine: Thread,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            events,
            waker: WakeOnDrop(engine),
            progress,
            ended: false,
        }
    }

    /// How many of the prompt's tokens came from the cache; settled before the first token.
    pub fn cached_tokens(&self) -> usize {
        self.progress.cached_tokens()
    }

    /// How far the request has come.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The next event; `None` after the last. A reader that pauses pauses its own sequence only.
    pub async fn next(&mut self) -> Option<TokenEvent> {
        let event = self.events.recv().await;
        self.observe(event)
    }

    /// As [`TokenStream::next`], for threads outside an async runtime.
    pub fn blocking_next(&mut self) -> Option<TokenEvent> {
        let event = self.events.blocking_recv();
        self.observe(event)
    }

    /// As [`TokenStream::blocking_next`], but gives up soon after `stop` says so.
    pub(super) fn next_unless(
        &mut self,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<TokenEvent>, EngineError> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if stop() {
                return Err(EngineError::CalledOff);
            }
            match self.events.poll_recv(&mut context) {
                Poll::Ready(event) => return Ok(self.observe(event)),
                Poll::Pending => std::thread::park_timeout(LOOK),
            }
        }
    }

    /// Sees to it that every stream ends in `Finished` or `Failed`, even when the engine has a
    /// fault and could not tell.
    fn observe(&mut self, event: Option<TokenEvent>) -> Option<TokenEvent> {
        match event {
            Some(event) => {
                self.ended |= !matches!(event, TokenEvent::Token(_));
                // There is room again: the sequence may have paused for it.
                self.waker.0.unpark();
                Some(event)
            }
            None if self.ended => None,
            None => {
                self.ended = true;
                Some(TokenEvent::Failed(EngineError::Restarted))
            }
        }
    }
}

/// Wakes a thread that waits for an event.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes the engine thread when its owner goes away, so that it sees what has been closed.
#[derive(Debug, Clone)]
pub(super) struct WakeOnDrop(pub(super) Thread);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

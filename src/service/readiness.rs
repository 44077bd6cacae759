//! Whether the service can answer now: a token decoded lately, or one decoded to find out.

use std::time::Duration;

use super::app::App;
use super::error::{RequestError, chain};
use super::first_token::first_token;
use super::lifecycle::Phase;
use crate::engine::TokenEvent;

/// A token as young as this proves that the engine decodes.
const FRESH: Duration = Duration::from_secs(15);
/// How long the probe may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the service is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unready {
    /// It is about to end.
    Draining,
    /// The engine's thread has ended.
    EngineDead,
    /// A probe token did not come in time.
    Silent,
    /// A probe token could not be had, in the engine's words.
    Failed(String),
}

impl App {
    /// Ready means: a token was decoded lately, by anyone; else one is decoded now.
    ///
    /// # Errors
    /// Why no token can be had.
    pub async fn ready(&self) -> Result<(), Unready> {
        if self.lifecycle.phase() > Phase::Serving {
            return Err(Unready::Draining);
        }
        if !self.engine.is_alive() {
            return Err(Unready::EngineDead);
        }
        // whoever it was for: an evaluation's tokens prove as much as a caller's
        let last = self.engine.stats().last_token;
        if last.is_some_and(|at| at.elapsed() <= FRESH) {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.decode_one()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(RequestError::EngineStopped)) => Err(Unready::EngineDead),
            Ok(Err(error)) => Err(Unready::Failed(chain(&error))),
            Err(_) => Err(Unready::Silent),
        }
    }

    /// Decodes one token of the shortest prompt there is.
    ///
    /// # Errors
    /// The engine cannot.
    pub async fn decode_one(&self) -> Result<(), RequestError> {
        let request = first_token(&self.encoder, None);
        let mut tokens = self.engine.submit(request)?;
        match tokens.next().await {
            Some(TokenEvent::Token(_) | TokenEvent::Finished { .. }) => Ok(()),
            Some(TokenEvent::Failed(error)) => Err(error.into()),
            None => Err(RequestError::EngineStopped),
        }
    }
}

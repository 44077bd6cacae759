//! Grammars of requests: compiled beside the async threads, two at a time, for a second at most.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::app::App;
use super::error::RequestError;
use super::turns::Turns;
use crate::text::{GrammarCompiler, GrammarError, GrammarSource};
use crate::types::TokenConstraint;

/// How long a compilation may take. Its own limits end it soon after.
const PATIENCE: Duration = Duration::from_secs(1);

/// The vocabulary's compiler, made when the first grammar comes.
#[derive(Debug, Default)]
pub(super) struct Grammars {
    compiler: Arc<OnceLock<Result<GrammarCompiler, GrammarError>>>,
    turns: Turns,
}

impl App {
    /// The limit that a grammar puts on tokens. Errors name `field`.
    pub(super) async fn constraint(
        &self,
        grammar: Option<&(&'static str, GrammarSource)>,
    ) -> Result<Option<Box<dyn TokenConstraint>>, RequestError> {
        let Some((field, source)) = grammar else {
            return Ok(None);
        };
        let refuse = |problem: String| RequestError::invalid(*field, problem);
        let turn = self.grammars.turns.take(self.queue_patience).await?;
        let (source, encoder) = (source.clone(), Arc::clone(&self.encoder));
        let ends = self.defaults.eos_token_ids.clone();
        let slot = Arc::clone(&self.grammars.compiler);
        // the vocabulary's own work is nobody's fault and counts against nobody
        let ready = tokio::task::spawn_blocking(move || {
            slot.get_or_init(|| GrammarCompiler::new(encoder.tokenizer(), &ends));
            slot
        });
        let slot = ready.await.unwrap_or_else(|panic| resume(panic));
        let compiling = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match slot.get() {
                Some(Ok(compiler)) => compiler.compile(&source),
                Some(Err(error)) => Err(error.clone()),
                None => Err(GrammarError::NoEnd),
            }
        });
        match tokio::time::timeout(PATIENCE, compiling).await {
            Ok(Ok(compiled)) => compiled
                .map(Some)
                .map_err(|error| refuse(error.to_string())),
            Ok(Err(panic)) => resume(panic),
            Err(_) => Err(refuse(format!(
                "takes longer than {} s to compile; make it simpler",
                PATIENCE.as_secs()
            ))),
        }
    }
}

fn resume(panic: tokio::task::JoinError) -> ! {
    std::panic::resume_unwind(panic.into_panic())
}

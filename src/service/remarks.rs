//! What is said beside answers to a request that holds something without effect, or that asks
//! for something else than it may mean.

use super::app::App;
use super::generation::Steered;
use super::offer::WeightsSource;
use super::prompt::{PromptInput, PromptTokens};
use super::truncation;

/// What of a request deserves a remark.
pub(super) struct Remarkable {
    names_user: bool,
    /// Text that no template surrounds.
    has_raw_text: bool,
}

impl Remarkable {
    pub(super) fn of(user: Option<&str>, prompts: &[PromptInput]) -> Self {
        let is_raw = |prompt: &PromptInput| matches!(prompt, PromptInput::Raw(_));
        Self {
            names_user: user.is_some(),
            has_raw_text: prompts.iter().any(is_raw),
        }
    }

    /// The remarks, once it is known who answers and what was left out.
    pub(super) fn remarks(
        &self,
        app: &App,
        steered: &Steered,
        prompts: &[PromptTokens],
    ) -> Vec<String> {
        let mut remarks = Vec::new();
        let source = steered.steering.as_ref().map(|used| used.source);
        if self.names_user && source != Some(WeightsSource::User) {
            remarks.push(format!("`user` has no effect: {}", why_unused(source)));
        }
        // every kind of training of this program has its prompts from the chat template
        let manifest = steered.policy.manifest.as_ref();
        let trained = manifest.is_some_and(|manifest| manifest.training.get("method").is_some());
        if self.has_raw_text && trained && app.encoder.has_chat_template() {
            remarks.push(
                "`prompt` is continued as raw text, while this policy was trained on \
                 conversations; /v1/chat/completions and /v1/generate apply its chat template"
                    .to_owned(),
            );
        }
        let left_out: Vec<_> = prompts.iter().map(|prompt| prompt.left_out).collect();
        remarks.extend(truncation::told(&left_out));
        remarks
    }
}

/// Why nothing was taken from `user`, where the weights came from elsewhere.
fn why_unused(source: Option<WeightsSource>) -> String {
    match source {
        None => "the model has no objectives".to_owned(),
        Some(WeightsSource::Key | WeightsSource::Default) => {
            "it names no profile of this server".to_owned()
        }
        Some(other) => format!("the weights came from {other}"),
    }
}

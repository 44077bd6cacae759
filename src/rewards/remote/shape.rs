//! The requests that reward servers understand.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::HttpConfig;
use super::transcript::Texts;

/// Whose request and response a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpShape {
    /// OpenRLHF's remote reward models: `query`, `prompts`, `labels` to `rewards`.
    Openrlhf,
    /// vLLM's `/classify`, and gateways that have it: the raw value of one label.
    VllmClassify,
    /// vLLM's `/score`: prompts and answers, one pair each.
    VllmScore,
    /// vLLM's `/pooling` of a reward model; of values for every token the last one counts.
    VllmPooling,
    /// vLLM's `/rerank`: answers to one prompt, returned best first.
    VllmRerank,
    /// TEI's `/predict`: pairs to labels with raw scores.
    TeiPredict,
    /// TEI's `/rerank`: answers to one prompt, returned best first.
    TeiRerank,
}

/// Which label's value is the reward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LabelChoice {
    /// By its place, from 0.
    Index(usize),
    /// By its name.
    Name(String),
}

impl HttpShape {
    /// The word of configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openrlhf => "openrlhf",
            Self::VllmClassify => "vllm_classify",
            Self::VllmScore => "vllm_score",
            Self::VllmPooling => "vllm_pooling",
            Self::VllmRerank => "vllm_rerank",
            Self::TeiPredict => "tei_predict",
            Self::TeiRerank => "tei_rerank",
        }
    }

    /// A request of this shape has one prompt, with one or more answers to it.
    fn has_one_prompt(self) -> bool {
        matches!(self, Self::VllmRerank | Self::TeiRerank)
    }

    /// Why the settings do not go with this shape; `None` where they do.
    pub(super) fn misfit(self, config: &HttpConfig) -> Option<&'static str> {
        let from_vllm = matches!(
            self,
            Self::VllmClassify | Self::VllmScore | Self::VllmPooling | Self::VllmRerank
        );
        match &config.label {
            _ if from_vllm && config.model.is_none() => {
                Some("`model` is missing; this shape sends it with every request")
            }
            _ if !from_vllm && config.model.is_some() => {
                Some("`model` has no effect on this shape; remove it")
            }
            None => None,
            Some(LabelChoice::Name(_)) if self != Self::TeiPredict => {
                Some("`label` is a name, which only tei_predict knows; expected a place from 0")
            }
            Some(LabelChoice::Index(_)) if self == Self::TeiPredict => {
                Some("`label` is a place, but tei_predict sorts its labels; expected a name")
            }
            Some(_)
                if !matches!(
                    self,
                    Self::VllmClassify | Self::VllmPooling | Self::TeiPredict
                ) =>
            {
                Some("`label` has no effect on this shape; remove it")
            }
            Some(_) => None,
        }
    }

    /// Which texts go into one request.
    pub(super) fn split(self, texts: &[Texts], batch: usize) -> Vec<Range<usize>> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match parts.last_mut() {
                Some(part)
                    if part.len() < batch
                        && (!self.has_one_prompt() || texts[part.start].prompt == text.prompt) =>
                {
                    part.end = index + 1;
                }
                _ => parts.push(index..index + 1),
            }
        }
        parts
    }

    /// The body that asks for `texts`; `labels` are what the prompts' rows say of the truth.
    pub(super) fn body(self, config: &HttpConfig, texts: &[Texts], labels: &[Value]) -> Value {
        let prompts = || texts.iter().map(|t| t.prompt.as_str()).collect::<Vec<_>>();
        let answers = || texts.iter().map(|t| t.answer.as_str()).collect::<Vec<_>>();
        let whole = || texts.iter().map(Texts::whole).collect::<Vec<_>>();
        let prompt = texts.first().map_or("", |t| t.prompt.as_str());
        let model = &config.model;
        match self {
            Self::Openrlhf => {
                json!({"query": whole(), "prompts": prompts(), "labels": labels})
            }
            Self::VllmClassify => {
                json!({"model": model, "input": whole(), "use_activation": false})
            }
            Self::VllmScore => {
                json!({"model": model, "queries": prompts(), "documents": answers()})
            }
            Self::VllmPooling => json!({"model": model, "input": whole()}),
            Self::VllmRerank => json!({"model": model, "query": prompt, "documents": answers()}),
            Self::TeiPredict => {
                // always a list of pairs: one bare pair means something else to the server
                let pairs: Vec<_> = texts.iter().map(|t| [&t.prompt, &t.answer]).collect();
                json!({"inputs": pairs, "raw_scores": true, "truncate": true})
            }
            Self::TeiRerank => {
                json!({"query": prompt, "texts": answers(), "raw_scores": true, "truncate": true})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(prompts: &[&str]) -> Vec<Texts> {
        let text = |prompt: &&str| Texts {
            prompt: (*prompt).to_owned(),
            answer: "answer".to_owned(),
        };
        prompts.iter().map(text).collect()
    }

    #[test]
    fn requests_are_full_and_a_reranker_gets_one_prompt_at_a_time() {
        let all = texts(&["a", "a", "b", "b", "b", "a"]);
        assert_eq!(HttpShape::VllmScore.split(&all, 4), [0..4, 4..6]);
        assert_eq!(
            HttpShape::TeiRerank.split(&all, 2),
            [0..2, 2..4, 4..5, 5..6]
        );
        assert!(HttpShape::Openrlhf.split(&[], 4).is_empty());
    }
}

//! Listens to one streamed answer: what each event says, and when it was heard.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::outcome::{Completion, Outcome};

/// A chunk of either route, as far as it matters here.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Count>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct Count {
    prompt_tokens: Option<usize>,
    completion_tokens: Option<usize>,
}

/// What was heard of an answer so far.
pub(super) struct Hearing {
    since: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    gaps: Vec<Duration>,
    usage: Option<Count>,
    done: Option<Instant>,
}

impl Hearing {
    /// Of an answer that was asked for at this moment.
    pub(super) fn since(since: Instant) -> Self {
        Self {
            since,
            first: None,
            last: None,
            gaps: Vec::new(),
            usage: None,
            done: None,
        }
    }

    /// Takes an event's data in.
    pub(super) fn hear(&mut self, data: &str, now: Instant) -> Result<(), Outcome> {
        if data == "[DONE]" {
            self.done.get_or_insert(now);
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|_| Outcome::failed("stream with an event that is no chunk"))?;
        if let Some(error) = chunk.error {
            let code = error["code"].as_str().or(error["type"].as_str());
            return Err(Outcome::failed(format!(
                "error in the stream: {}",
                code.unwrap_or("without a code")
            )));
        }
        self.usage = chunk.usage.or(self.usage.take());
        for choice in chunk.choices {
            let delta = choice.delta.map(|d| [d.content, d.reasoning_content]);
            let mut texts = delta.into_iter().flatten().chain([choice.text]).flatten();
            if texts.any(|text| !text.is_empty()) {
                self.gaps.extend(self.last.map(|last| now - last));
                self.first.get_or_insert(now);
                self.last = Some(now);
            }
        }
        Ok(())
    }

    /// The outcome, once the stream has ended.
    pub(super) fn end(self) -> Result<Outcome, Outcome> {
        let ended = self
            .done
            .ok_or_else(|| Outcome::failed("stream ended without [DONE]"))?;
        let first = self
            .first
            .ok_or_else(|| Outcome::failed("answer without text"))?;
        let usage = self.usage.as_ref();
        Ok(Outcome::Completed(Completion {
            first_text: first - self.since,
            total: ended - self.since,
            output_tokens: usage
                .and_then(|usage| usage.completion_tokens)
                .unwrap_or(self.gaps.len() + 1),
            prompt_tokens: usage.and_then(|usage| usage.prompt_tokens),
            gaps: self.gaps,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn heard(events: &[(u32, &str)]) -> Result<Outcome, Outcome> {
        let start = Instant::now();
        let mut hearing = Hearing::since(start);
        for (ms, data) in events {
            hearing.hear(data, start + *ms * MS)?;
        }
        hearing.end()
    }

    #[test]
    fn times_count_pieces_of_text_and_nothing_else() {
        let outcome = heard(&[
            (
                1,
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            ),
            (5, r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#),
            (8, r#"{"choices":[{"delta":{"reasoning_content":"b"}}]}"#),
            (9, r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#),
            (
                10,
                r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
            ),
            (11, "[DONE]"),
        ]);
        let expected = Completion {
            first_text: 5 * MS,
            gaps: vec![3 * MS],
            total: 11 * MS,
            output_tokens: 3,
            prompt_tokens: Some(7),
        };
        assert_eq!(outcome, Ok(Outcome::Completed(expected)));
    }

    #[test]
    fn without_usage_the_pieces_are_counted() {
        let outcome = heard(&[
            (1, r#"{"choices":[{"text":"a"}]}"#),
            (2, r#"{"choices":[{"text":"b"}]}"#),
            (3, "[DONE]"),
        ]);
        let Ok(Outcome::Completed(answer)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((answer.output_tokens, answer.prompt_tokens), (2, None));
    }

    #[test]
    fn what_is_no_whole_answer_fails_by_its_kind() {
        let check = |events: &[(u32, &str)], kind: &str| {
            assert_eq!(heard(events), Err(Outcome::failed(kind)));
        };
        let text = (1, r#"{"choices":[{"text":"a"}]}"#);
        check(&[text], "stream ended without [DONE]");
        check(&[(1, "[DONE]")], "answer without text");
        check(
            &[text, (2, "oops")],
            "stream with an event that is no chunk",
        );
        let error = r#"{"error":{"code":"engine_error","message":"x"}}"#;
        check(&[text, (2, error)], "error in the stream: engine_error");
    }
}

//! Structured output: what a completion must spell, as a limit on its tokens.
//!
//! Grammars come from callers, so their size, their compilation and each of their masks are
//! bounded, and errors carry no state of the server. Fetches nothing: a schema's remote
//! references are refused.

use std::fmt;
use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use super::Tokenizer;
use crate::types::{ConstraintError, TokenConstraint, TokenId, TokenSet};

/// Longest schema or pattern, in bytes: what is longer takes seconds and hundreds of megabytes.
pub const MAX_GRAMMAR_BYTES: usize = 64 << 10;
/// Longest piece of the compiler's own words that is passed on.
const MAX_REASON_CHARS: usize = 300;

/// What a completion must be.
#[derive(Debug, Clone, PartialEq)]
pub enum GrammarSource {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema allows.
    JsonSchema(Value),
    /// Text that a regular expression matches from its first to its last character.
    Regex(String),
}

/// Why there is no grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The text is longer than is taken.
    #[error("has {bytes} bytes, but at most {MAX_GRAMMAR_BYTES} are taken")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// It is no schema or pattern, or asks for more than the limits allow.
    #[error("cannot be compiled: {0}")]
    Refused(String),
    /// The model could not say that it is done.
    #[error("needs a model with an end-of-sequence token, and this one names none")]
    NoEnd,
}

/// Compiles grammars over one vocabulary.
pub struct GrammarCompiler {
    factory: ParserFactory,
}

impl GrammarCompiler {
    /// Over a tokenizer's vocabulary. `ends` are the tokens that end a completion.
    ///
    /// # Errors
    /// No token ends a completion, or the vocabulary cannot be used.
    pub fn new(tokenizer: &Tokenizer, ends: &[TokenId]) -> Result<Self, GrammarError> {
        let vocabulary: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as TokenId)
            .map(|id| trie_entry(tokenizer, id))
            .collect();
        let mut ends = ends.to_vec();
        ends.retain(|id| (*id as usize) < vocabulary.len());
        let first = *ends.first().ok_or(GrammarError::NoEnd)?;
        let info = TokRxInfo::new(vocabulary.len() as u32, first);
        let trie = TokTrie::from(&info, &vocabulary).with_eos_tokens(&ends);
        let environment: TokEnv = Arc::new(Vocabulary { trie });
        let mut factory = ParserFactory::new_simple(&environment).map_err(refused)?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            // states of the server and the caller's text have no place in an error
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Ok(Self { factory })
    }

    /// Compiles a grammar. Takes milliseconds to some tenths of a second: not for async threads.
    ///
    /// # Errors
    /// It is too long, is not what it should be, or asks for more than the limits allow.
    pub fn compile(
        &self,
        source: &GrammarSource,
    ) -> Result<Box<dyn TokenConstraint>, GrammarError> {
        let grammar = match source {
            GrammarSource::JsonObject => schema_grammar(json!({"type": "object"}))?,
            GrammarSource::JsonSchema(schema) => {
                check_length(schema.to_string().len())?;
                schema_grammar(schema.clone())?
            }
            GrammarSource::Regex(pattern) => {
                check_length(pattern.len())?;
                let pattern = without_anchors(pattern);
                check_pattern(pattern)?;
                TopLevelGrammar::from_regex(pattern)
            }
        };
        let parser = self.factory.create_parser(grammar).map_err(refused)?;
        let mut matcher = Matcher::new(Ok(parser));
        // what cannot even begin is refused here, not half-way through a reply
        matcher.compute_mask_or_eos().map_err(refused)?;
        Ok(Box::new(GrammarState { matcher }))
    }
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").finish_non_exhaustive()
    }
}

fn check_length(bytes: usize) -> Result<(), GrammarError> {
    match bytes > MAX_GRAMMAR_BYTES {
        true => Err(GrammarError::TooLarge { bytes }),
        false => Ok(()),
    }
}

/// A schema's grammar. Blanks stand where Python's `json.dumps` puts them and nowhere else, so
/// that no model can go on adding blanks for ever.
fn schema_grammar(mut schema: Value) -> Result<TopLevelGrammar, GrammarError> {
    let Some(object) = schema.as_object_mut() else {
        return Err(GrammarError::Refused(
            "a schema is a JSON object".to_owned(),
        ));
    };
    let layout = json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
    });
    object.insert("x-guidance".to_owned(), layout);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// Refuses what the compiler would read as something else.
fn check_pattern(pattern: &str) -> Result<(), GrammarError> {
    let problem = if pattern.is_empty() {
        "it matches nothing"
    } else if !escapes_nothing(pattern) {
        "its last backslash escapes nothing"
    } else {
        return Ok(());
    };
    Err(GrammarError::Refused(problem.to_owned()))
}

/// The whole text is matched anyway, and the compiler knows no anchors.
fn without_anchors(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    match pattern.strip_suffix('$') {
        Some(rest) if escapes_nothing(rest) => rest,
        _ => pattern,
    }
}

/// Whether what follows the text is not escaped by it.
fn escapes_nothing(text: &str) -> bool {
    let backslashes = text.chars().rev().take_while(|c| *c == '\\').count();
    backslashes % 2 == 0
}

/// The compiler's words, up to where it begins to tell of its own state.
fn refused(error: impl fmt::Display) -> GrammarError {
    GrammarError::Refused(reason(&error.to_string()))
}

fn reason(words: &str) -> String {
    if words.starts_with("panic") {
        return "the compiler gave up on it".to_owned();
    }
    let plain = words.split("\n<").next().unwrap_or_default().trim();
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_REASON_CHARS).collect()
}

/// A token as the trie knows it: its bytes, or its marked name where text cannot spell it.
fn trie_entry(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    match tokenizer.is_special(id) {
        true => {
            let name = tokenizer.token_text(id);
            [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
        }
        false => tokenizer.piece_bytes(id),
    }
}

/// The vocabulary as the grammar library wants it. Which tokens spell a text is the model's
/// choice, so nothing is ever forced on it.
struct Vocabulary {
    trie: TokTrie,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(bytes)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

/// Where one completion stands in its grammar.
struct GrammarState {
    matcher: Matcher,
}

impl TokenConstraint for GrammarState {
    fn allowed(&mut self, tokens: &mut TokenSet) -> Result<(), ConstraintError> {
        let mask = self.matcher.compute_mask_or_eos().map_err(failed)?;
        tokens.clear();
        for (word, bits) in tokens.words_mut().iter_mut().zip(mask.as_slice()) {
            *word = *bits;
        }
        Ok(())
    }

    fn advance(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        // past its end only the end itself can come
        if self.matcher.is_stopped() && !self.matcher.is_error() {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(failed)
    }

    fn boxed_clone(&self) -> Box<dyn TokenConstraint> {
        Box::new(Self {
            matcher: self.matcher.deep_clone(),
        })
    }
}

impl fmt::Debug for GrammarState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarState").finish_non_exhaustive()
    }
}

fn failed(error: impl fmt::Display) -> ConstraintError {
    ConstraintError(reason(&error.to_string()))
}

#[cfg(test)]
mod tests;

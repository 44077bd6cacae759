//! What may come next: the seam between the engine, which knows tokens, and a grammar, which
//! knows what they spell.

use std::fmt::Debug;

use super::TokenId;

/// A set of tokens of one vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u32>,
}

impl TokenSet {
    /// The empty set over a vocabulary of this many tokens.
    pub fn new(vocabulary: usize) -> Self {
        Self {
            words: vec![0; vocabulary.div_ceil(32)],
        }
    }

    /// Takes every token out.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Puts a token in; one past the vocabulary is left out.
    pub fn insert(&mut self, token: TokenId) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word |= 1 << (token % 32);
        }
    }

    /// Whether a token is in.
    pub fn contains(&self, token: TokenId) -> bool {
        let word = self.words.get(token as usize / 32);
        word.is_some_and(|word| word & (1 << (token % 32)) != 0)
    }

    /// The set as bits, 32 tokens a word, the lowest bit first.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }
}

/// Why a constraint cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the output constraint failed: {0}")]
pub struct ConstraintError(pub String);

/// Limits a completion's tokens, one state per sequence.
pub trait TokenConstraint: Send + Debug {
    /// Fills in the tokens that may come next. End-of-sequence tokens are in it exactly where the
    /// completion may end here.
    fn allowed(&mut self, tokens: &mut TokenSet) -> Result<(), ConstraintError>;

    /// Takes note of the token that came.
    fn advance(&mut self, token: TokenId) -> Result<(), ConstraintError>;

    /// A copy in the same state, for a further completion of the same prompt.
    fn boxed_clone(&self) -> Box<dyn TokenConstraint>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = TokenSet::new(70);
        for token in [0, 31, 32, 69] {
            set.insert(token);
        }
        let held: Vec<_> = (0..200).filter(|token| set.contains(*token)).collect();
        assert_eq!(held, [0, 31, 32, 69]);
        set.clear();
        assert!(!set.contains(31));
    }
}

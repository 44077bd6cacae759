//! One row of a sequence: its tokens, and the blocks that hold the computed ones.

use crate::model::{BLOCK_TOKENS, BlockId};
use crate::types::TokenId;

use super::blocks::{Blocks, Found};
use super::chain::ChainKey;

/// A prompt with its completion so far, and its share of the cache.
///
/// Invariant: the table's blocks hold the first `cached` tokens, and while the sequence runs at
/// least one token is not cached yet.
#[derive(Debug)]
pub(super) struct Row {
    tokens: Vec<TokenId>,
    prompt_tokens: usize,
    cached: usize,
    table: Vec<BlockId>,
    /// `None` where what is computed may not be used again.
    chain: Option<Chain>,
}

/// The names of a row's full blocks, as far as they were needed.
#[derive(Debug)]
struct Chain {
    root: ChainKey,
    keys: Vec<ChainKey>,
}

impl Row {
    /// A row of which nothing is computed. Blocks are shared with rows of the same root.
    pub(super) fn new(prompt: Vec<TokenId>, root: Option<ChainKey>) -> Self {
        Self {
            prompt_tokens: prompt.len(),
            tokens: prompt,
            cached: 0,
            table: Vec::new(),
            chain: root.map(|root| Chain {
                root,
                keys: Vec::new(),
            }),
        }
    }

    pub(super) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    pub(super) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    pub(super) fn cached(&self) -> usize {
        self.cached
    }

    pub(super) fn table(&self) -> &[BlockId] {
        &self.table
    }

    /// Tokens that are not computed yet.
    pub(super) fn left(&self) -> usize {
        self.tokens.len() - self.cached
    }

    pub(super) fn push(&mut self, token: TokenId) {
        self.tokens.push(token);
    }

    /// The name of the block at `index`, where it is full of tokens.
    fn key(&mut self, index: usize) -> Option<ChainKey> {
        let chain = self.chain.as_mut()?;
        while chain.keys.len() <= index {
            let first = chain.keys.len() * BLOCK_TOKENS;
            let tokens = self.tokens.get(first..first + BLOCK_TOKENS)?;
            let before = chain.keys.last().unwrap_or(&chain.root);
            chain.keys.push(before.after(tokens));
        }
        Some(chain.keys[index])
    }

    /// The name of the block that comes next, where it could be somebody else's: its last token
    /// must not be the row's last, which is computed to draw from.
    pub(super) fn next_shared_key(&mut self) -> Option<ChainKey> {
        let index = self.cached / BLOCK_TOKENS;
        let aligned = self.cached.is_multiple_of(BLOCK_TOKENS);
        if aligned && (index + 1) * BLOCK_TOKENS < self.tokens.len() {
            self.key(index)
        } else {
            None
        }
    }

    /// The name of the block that is being filled, where the tokens to fill it are there.
    pub(super) fn filling_key(&mut self) -> Option<ChainKey> {
        self.key(self.cached / BLOCK_TOKENS)
    }

    /// Holds every block that comes next and is computed already. Returns the tokens saved.
    pub(super) fn adopt(&mut self, blocks: &mut Blocks) -> usize {
        let before = self.cached;
        while let Some(key) = self.next_shared_key() {
            let Some(block) = blocks.share(&key) else {
                break;
            };
            self.table.push(block);
            self.cached += BLOCK_TOKENS;
        }
        self.cached - before
    }

    /// How many of the available blocks it takes to compute all tokens and one more.
    pub(super) fn blocks_missing(&mut self, blocks: &Blocks) -> usize {
        let needed = (self.tokens.len() + 1).div_ceil(BLOCK_TOKENS);
        let mut missing = needed.saturating_sub(self.table.len());
        if self.chain.is_none() || !self.table.is_empty() {
            return missing;
        }
        let mut index = 0;
        while (index + 1) * BLOCK_TOKENS < self.tokens.len() {
            match self.key(index).map(|key| blocks.look(&key)) {
                Some(Found::Held) => missing -= 1,
                Some(Found::Kept) => {}
                Some(Found::Nothing) | None => break,
            }
            index += 1;
        }
        missing
    }

    /// Sees to it that there are blocks for the next `tokens` tokens. False if none are left;
    /// those that were found stay held.
    pub(super) fn reserve(&mut self, tokens: usize, blocks: &mut Blocks) -> bool {
        let needed = (self.cached + tokens).div_ceil(BLOCK_TOKENS);
        while self.table.len() < needed {
            let Some(block) = blocks.take() else {
                return false;
            };
            self.table.push(block);
        }
        let written = &self.table[self.cached / BLOCK_TOKENS..];
        debug_assert!(written.iter().all(|block| blocks.is_writable(*block)));
        true
    }

    /// Takes note that the next `tokens` tokens are computed; full blocks become known.
    pub(super) fn advance(&mut self, tokens: usize, blocks: &mut Blocks) {
        let full = self.cached / BLOCK_TOKENS;
        self.cached += tokens;
        for index in full..self.cached / BLOCK_TOKENS {
            if let Some(key) = self.key(index) {
                blocks.publish(self.table[index], key);
            }
        }
    }

    /// Gives every block back. What was computed has to be found again or computed anew.
    pub(super) fn release(&mut self, blocks: &mut Blocks) {
        blocks.release(&mut self.table);
        self.cached = 0;
    }
}

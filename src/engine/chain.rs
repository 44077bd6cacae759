//! Names for the content of blocks: what was computed, by which parameters, for whom.
//!
//! A block's keys and values depend on every token before them, so its name is a hash over its own
//! tokens and the name of the block before it. The hash is cryptographic: no caller can make two
//! prompts that share a name.

use crate::types::TokenId;

/// The name of one block's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChainKey([u8; 32]);

impl ChainKey {
    /// What stands before the first block: the identity of the parameters, and the salt.
    pub(super) fn root(identity: u64, salt: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&identity.to_le_bytes());
        hasher.update(&salt.to_le_bytes());
        Self(hasher.finalize().into())
    }

    /// The name of the block with these tokens after the block of this name.
    pub(super) fn after(&self, tokens: &[TokenId]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        Self(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_parameters_salt_tokens_and_what_came_before() {
        let root = ChainKey::root(1, 2);
        let names = [
            root.after(&[1, 2]),
            root.after(&[2, 1]),
            root.after(&[1]).after(&[2]),
            ChainKey::root(2, 2).after(&[1, 2]),
            ChainKey::root(1, 3).after(&[1, 2]),
            ChainKey::root(2, 1).after(&[1, 2]),
        ];
        for (place, name) in names.iter().enumerate() {
            assert!(!names[..place].contains(name), "{place}");
        }
        assert_eq!(names[0], ChainKey::root(1, 2).after(&[1, 2]));
    }
}

//! How byte-level tokenizers cut text before pairs are merged: by the name that a file gives
//! (`tokenizer.ggml.pre`). The patterns are those that the models were trained with; where a name
//! is not here, another pattern would cut words in other places and nobody would notice.

use crate::gguf::{GgufError, Metadata};

/// How one kind of byte-level tokenizer works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Splitting {
    names: &'static [&'static str],
    /// Each cuts what the one before it has left in pieces.
    pub(super) patterns: &'static [&'static str],
    /// A piece that is a token is one, whatever pairs say.
    pub(super) ignores_merges: bool,
    /// Whether a plain prompt begins with the token for that, where the file does not say.
    pub(super) adds_bos: bool,
    /// Whether letters and their marks are composed first.
    pub(super) composes: bool,
}

/// Words with the blank before them, numbers, signs, blanks: GPT-2's.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Words with any sign before them, up to three digits: that of GPT-4, and of Llama 3.
const TRIPLES: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits: Qwen's.
const DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words that break where capitals begin: Mistral's newer ones.
const CASES: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const KNOWN: [Splitting; 7] = [
    Splitting {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
        patterns: &[TRIPLES],
        ignores_merges: true,
        adds_bos: true,
        composes: false,
    },
    Splitting {
        names: &["dbrx", "smaug-bpe"],
        patterns: &[TRIPLES],
        ignores_merges: false,
        adds_bos: false,
        composes: false,
    },
    Splitting {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        patterns: &[DIGITS],
        ignores_merges: false,
        adds_bos: false,
        composes: true,
    },
    Splitting {
        names: &["gpt-2", "phi-2"],
        patterns: &[WORDS],
        ignores_merges: false,
        adds_bos: false,
        composes: false,
    },
    Splitting {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        patterns: &[r"\p{N}", WORDS],
        ignores_merges: false,
        adds_bos: false,
        composes: false,
    },
    Splitting {
        names: &["tekken"],
        patterns: &[CASES],
        ignores_merges: true,
        adds_bos: true,
        composes: false,
    },
    // what llama.cpp does with files that name nothing
    Splitting {
        names: &["default"],
        patterns: &[
            r"[\p{P}\$\+<=>\^~\|]+",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
            r"\p{N}+",
            r"[0-9][0-9][0-9]",
        ],
        ignores_merges: false,
        adds_bos: false,
        composes: false,
    },
];

impl Splitting {
    /// The one that a file names.
    pub(super) fn of(metadata: &Metadata) -> Result<Self, GgufError> {
        let key = "tokenizer.ggml.pre";
        let Some(name) = metadata.text(key)? else {
            let names = names();
            return Err(metadata.wrong(key, format!("is missing, expected one of {names}")));
        };
        let found = KNOWN.iter().find(|kind| kind.names.contains(&name));
        found.copied().ok_or_else(|| {
            metadata.unsupported(
                format!("the pre-tokenizer `{name}`"),
                format!("supported: {}", names()),
            )
        })
    }
}

fn names() -> String {
    let names: Vec<&str> = KNOWN.iter().flat_map(|kind| kind.names).copied().collect();
    names.join(", ")
}

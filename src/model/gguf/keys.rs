//! The settings of a file's architecture, each of which is read, known to change nothing, or refused.

use std::collections::BTreeSet;

use crate::gguf::{GgufError, GgufFile, Metadata};

/// Architectures of files, and what `config.json` calls them. Mistral's files say `llama`.
const ARCHITECTURES: [(&str, &str); 8] = [
    ("llama", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("gemma", "gemma"),
    ("gemma2", "gemma2"),
    ("gemma3", "gemma3_text"),
    ("phi3", "phi3"),
    ("smollm3", "smollm3"),
];

/// Keys that change nothing in what is computed, or are told by the tensors too.
const NEUTRAL: [&str; 4] = [
    "vocab_size",
    "attention.causal",
    "rope.scaling.finetuned",
    "tensor_data_layout",
];

/// The keys of one architecture, ticked off as they are read.
pub(super) struct Keys<'a> {
    pub(super) metadata: &'a Metadata,
    architecture: &'a str,
    pub(super) model_type: &'static str,
    used: BTreeSet<String>,
}

impl<'a> Keys<'a> {
    pub(super) fn of(file: &'a GgufFile) -> Result<Self, GgufError> {
        let metadata = file.metadata();
        let key = "general.architecture";
        let architecture = metadata.text(key)?;
        let architecture = architecture.ok_or_else(|| metadata.wrong(key, "is missing"))?;
        let known = ARCHITECTURES.iter().find(|(name, _)| *name == architecture);
        let Some((_, model_type)) = known else {
            let names = ARCHITECTURES.map(|(name, _)| name).join(", ");
            return Err(metadata.unsupported(
                format!("the architecture `{architecture}`"),
                format!("supported architectures: {names}"),
            ));
        };
        Ok(Self {
            metadata,
            architecture,
            model_type,
            used: BTreeSet::new(),
        })
    }

    pub(super) fn key(&mut self, name: &str) -> String {
        let key = format!("{}.{name}", self.architecture);
        self.used.insert(key.clone());
        key
    }

    pub(super) fn count(&mut self, name: &str) -> Result<Option<usize>, GgufError> {
        let key = self.key(name);
        self.metadata.count(&key)
    }

    pub(super) fn required(&mut self, name: &str) -> Result<usize, GgufError> {
        let key = self.key(name);
        self.metadata.required_count(&key)
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, GgufError> {
        let key = self.key(name);
        // stored as f32 mostly: its shortest spelling is the number that was meant
        let number = self.metadata.number(&key)?;
        Ok(number.map(|value| (value as f32).to_string().parse().unwrap_or(value)))
    }

    /// Refuses the first key of the architecture that nobody has read and that is not off.
    pub(super) fn finish(mut self) -> Result<(), GgufError> {
        for name in NEUTRAL {
            self.key(name);
        }
        let prefix = format!("{}.", self.architecture);
        let mut own = self
            .metadata
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix));
        match own.find(|(key, value)| !self.used.contains(*key) && !value.is_off()) {
            None => Ok(()),
            Some((key, _)) => Err(self.metadata.unsupported(
                format!("the setting `{key}`"),
                "only what this program computes is served",
            )),
        }
    }
}

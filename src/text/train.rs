//! Trains a byte-level BPE tokenizer and writes it so that transformers loads it too.

use std::path::Path;

use serde_json::json;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    TokenizerBuilder,
};

use super::TextError;

/// Size of a tokenizer, and its special tokens.
#[derive(Debug, Clone)]
pub struct TokenizerSettings {
    /// Tokens in all, special ones included.
    pub vocab_size: usize,
    /// Special tokens, which get the first ids in this order; must hold the ones named below.
    pub special_tokens: Vec<String>,
    /// Begins every prompt.
    pub bos_token: String,
    /// Ends an answer.
    pub eos_token: String,
    /// Fills batches elsewhere.
    pub pad_token: String,
    /// Jinja source of the chat template.
    pub chat_template: String,
}

impl TokenizerSettings {
    /// The demo's layout: `<|bos|><|user|>..<|end|><|assistant|>..<|end|>`, with a pair of fences
    /// for the objective weights.
    pub fn demo(vocab_size: usize) -> Self {
        let names = [
            "<|bos|>",
            "<|eos|>",
            "<|pad|>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|tool|>",
            "<|end|>",
            "<|weights|>",
            "<|/weights|>",
        ];
        let template = "{{ bos_token }}{% for message in messages %}\
             {{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}\
             {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
        Self {
            vocab_size,
            special_tokens: names.map(str::to_owned).to_vec(),
            bos_token: "<|bos|>".into(),
            eos_token: "<|end|>".into(),
            pad_token: "<|pad|>".into(),
            chat_template: template.into(),
        }
    }
}

/// Learns merges from `texts` and writes `tokenizer.json`, `tokenizer_config.json` and
/// `special_tokens_map.json` into `out`. Digits are always tokens of their own.
pub fn train_tokenizer(
    texts: impl Iterator<Item = String> + Send,
    settings: &TokenizerSettings,
    out: &Path,
) -> Result<(), TextError> {
    let failed = |action| move |source| TextError::Tokenizer { action, source };
    let byte_level = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(byte_level),
    ]))))
    .with_decoder(Some(DecoderWrapper::ByteLevel(byte_level)))
    .build()
    .map_err(failed("building a tokenizer"))?;
    let special = settings
        .special_tokens
        .iter()
        .map(|text| AddedToken::from(text.clone(), true));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(settings.vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.collect())
        .build();
    tokenizer
        .train(&mut trainer, texts)
        .map_err(failed("training a tokenizer"))?;
    let bos = &settings.bos_token;
    let bos_id = tokenizer.token_to_id(bos).unwrap_or_default();
    let with_bos = TemplateProcessing::builder()
        .try_single(format!("{bos} $A"))
        .map_err(|reason| failed("placing the beginning token")(reason.into()))?
        .special_tokens(vec![(bos.clone(), bos_id)])
        .build()
        .map_err(|reason| failed("placing the beginning token")(Box::new(reason)))?;
    tokenizer.with_post_processor(Some(PostProcessorWrapper::Template(with_bos)));
    let json = tokenizer
        .to_string(true)
        .map_err(failed("writing a tokenizer"))?;
    let write = |name: &str, text: String| {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(|source| TextError::Io { path, source })
    };
    std::fs::create_dir_all(out).map_err(|source| TextError::Io {
        path: out.to_owned(),
        source,
    })?;
    write("tokenizer.json", json)?;
    let named = json!({
        "bos_token": settings.bos_token,
        "eos_token": settings.eos_token,
        "pad_token": settings.pad_token,
    });
    write("special_tokens_map.json", format!("{named:#}\n"))?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": settings.bos_token,
        "eos_token": settings.eos_token,
        "pad_token": settings.pad_token,
        "chat_template": settings.chat_template,
        "clean_up_tokenization_spaces": false,
    });
    write("tokenizer_config.json", format!("{config:#}\n"))
}

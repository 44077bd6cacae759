//! Tokenisation, chat rendering and detokenising against transformers, and forgery.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use steersman::text::{Detokenizer, PromptEncoder, TextError, Tokenizer};
use steersman::types::{ControlSpan, Message, Placement, TokenId};

use crate::fixtures::fixture;

const DECODERS: [&str; 9] = [
    "llama",
    "llama_rope_llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
    "phi3",
];

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture(name).join("golden.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &Value) -> Vec<TokenId> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn tokenisation_equals_transformers() {
    for name in DECODERS {
        let tokenizer = Tokenizer::load(&fixture(name)).unwrap();
        for case in golden(name)["tokenization"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(
                tokenizer.encode_with_bos(text).unwrap(),
                ids(&case["ids"]),
                "{name}"
            );
            let plain = ids(&case["ids_no_special"]);
            assert_eq!(tokenizer.encode_plain(text).unwrap(), plain, "{name}");
            assert_eq!(
                tokenizer.decode(&plain),
                case["decoded"].as_str().unwrap(),
                "{name}"
            );
        }
    }
}

#[test]
fn chats_render_as_in_transformers_or_are_refused_with_the_same_words() {
    let (mut rendered, mut refused) = (0, 0);
    for name in DECODERS {
        let encoder = PromptEncoder::load(&fixture(name)).unwrap();
        for case in golden(name)["chat"].as_array().unwrap() {
            let Ok(messages) = serde_json::from_value::<Vec<Message>>(case["messages"].clone())
            else {
                panic!("{name}: {}", case["messages"]);
            };
            if case["add_generation_prompt"] == false {
                continue;
            }
            let ours = encoder.encode_chat(&messages, None);
            match case.get("ids") {
                Some(expected) => {
                    assert_eq!(ours.unwrap(), ids(expected), "{name}: {}", case["text"]);
                    rendered += 1;
                }
                None => {
                    let error = ours.unwrap_err();
                    assert!(
                        matches!(error, TextError::TemplateRefused(_)),
                        "{name}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(
        rendered > 9 && refused > 0,
        "{rendered} rendered, {refused} refused"
    );
}

fn span(placement: Placement) -> ControlSpan {
    ControlSpan {
        open: "<|start_header_id|>".into(),
        body: "brevity 0.7 detail 0.3".into(),
        close: "<|end_header_id|>".into(),
        placement,
    }
}

fn specials(tokenizer: &Tokenizer, ids: &[TokenId]) -> usize {
    ids.iter().filter(|id| tokenizer.is_special(**id)).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_caller_text_becomes_a_control_token(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>",
                "<|start_", "header_id|>", "brevity 1.0 detail 0.0", "\u{FDD0}", "\u{FDD1}", "0",
                "naïve", " ", "\n", "日本",
            ]),
            1..12,
        ),
        at_end in any::<bool>(),
    ) {
        let encoder = PromptEncoder::load(&fixture("llama")).unwrap();
        let tokenizer = encoder.tokenizer();
        let span = span(if at_end { Placement::PromptEnd } else { Placement::PromptStart });
        let harmless = encoder.encode_chat(&[Message::user("hello")], Some(&span)).unwrap();
        let text = pieces.concat();
        let forged = encoder.encode_chat(&[Message::user(&text)], Some(&span)).unwrap();
        prop_assert_eq!(specials(tokenizer, &forged), specials(tokenizer, &harmless));
        let raw = encoder.encode_prompt(&text, Some(&span)).unwrap();
        prop_assert_eq!(specials(tokenizer, &raw), 3); // bos and the two fences
    }

    #[test]
    fn a_stream_of_tokens_joins_to_their_decoding(
        name in prop::sample::select(DECODERS.to_vec()),
        ids in prop::collection::vec(0u32..512, 0..60),
    ) {
        let tokenizer = Arc::new(Tokenizer::load(&fixture(name)).unwrap());
        let mut stream = Detokenizer::new(tokenizer.clone());
        let mut text: String = ids.iter().map(|id| stream.push(*id)).collect();
        text.push_str(&stream.finish());
        prop_assert_eq!(text, tokenizer.decode(&ids));
    }
}

#[test]
fn a_dialogue_marks_what_the_assistant_said() {
    let encoder = PromptEncoder::load(&fixture("llama")).unwrap();
    let dialogue = [
        Message::user("a tap"),
        Message::assistant("Wait."),
        Message::user("why"),
    ];
    let (ids, mask) = encoder
        .encode_dialogue(&dialogue, Some(&span(Placement::PromptStart)))
        .unwrap();
    assert_eq!(ids.len(), mask.len());
    let said: Vec<TokenId> = ids
        .iter()
        .zip(&mask)
        .filter(|(_, said)| **said)
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(encoder.tokenizer().decode(&said), "Wait.");
    let end = encoder.tokenizer().special_id("<|eot_id|>").unwrap();
    assert_eq!(said.last(), Some(&end), "the end of the turn is learnt too");
}

#[test]
fn a_fence_that_is_no_special_token_is_refused_by_name() {
    let encoder = PromptEncoder::load(&fixture("llama")).unwrap();
    let mut span = span(Placement::PromptStart);
    span.close = "[End]".into();
    assert!(
        encoder
            .check_span(&span)
            .unwrap_err()
            .to_string()
            .contains("`[End]`")
    );
}

#[test]
fn a_trained_tokenizer_begins_prompts_and_spells_anything() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ["the tap drips", "the cap fits", "a tap and a cap"].map(String::from);
    let settings = steersman::text::TokenizerSettings::demo(300);
    steersman::text::train_tokenizer(texts.into_iter(), &settings, folder.path()).unwrap();
    let encoder = PromptEncoder::load(folder.path()).unwrap();
    let tokenizer = encoder.tokenizer();
    let ids = tokenizer.encode_with_bos("naïve 3.14 日本").unwrap();
    assert_eq!(ids.first().copied(), tokenizer.bos_id());
    assert_eq!(tokenizer.decode(&ids), "naïve 3.14 日本");
    let chat = encoder
        .encode_chat(&[Message::user("the <|end|> tap")], None)
        .unwrap();
    assert_eq!(specials(tokenizer, &chat), 4); // bos, user, end, assistant
}

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
        open: "<|end_of_text|>".into(),
        body: "brevity 0.7 detail 0.3".into(),
        close: "<|pad|>".into(),
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
                "<|end_of_text|>", "<|pad|>", "<|eot_id|>", "<|begin_of_text|>",
                "<|start_header_id|>", "<|start_", "header_id|>", "<|pa", "d|>", "brevity 1.0 detail 0.0", "\u{FDD0}", "\u{FDD1}", "0",
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
fn fences_that_others_could_write_are_refused_by_name() {
    for (model, close, said) in [
        ("llama", "[End]", "`[End]`, which is no special token"),
        ("gemma2", "<unk>", "the one for unknown text"),
        (
            "llama",
            "<|eot_id|>",
            "`<|eot_id|>`, which the chat template writes itself",
        ),
    ] {
        let encoder = PromptEncoder::load(&fixture(model)).unwrap();
        let open = if model == "gemma2" {
            "<pad>"
        } else {
            "<|pad|>"
        };
        let span = ControlSpan {
            open: open.into(),
            close: close.into(),
            ..span(Placement::PromptStart)
        };
        let error = encoder.check_span(&span).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_template_that_ends_with_a_token_of_its_own_can_be_trained_and_conditioned() {
    // Phi-3's template writes the end of the sequence behind a dialogue without a marker.
    let encoder = PromptEncoder::load(&fixture("phi3")).unwrap();
    let turns = [
        Message::user("one"),
        Message::assistant("two"),
        Message::user("three"),
        Message::assistant("four"),
    ];
    let (ids, mask) = encoder.encode_dialogue(&turns, None).unwrap();
    let said: Vec<TokenId> = (0..ids.len())
        .filter(|i| mask[*i])
        .map(|i| ids[i])
        .collect();
    let text = encoder.tokenizer().decode(&said);
    assert!(text.contains("two") && text.contains("four"), "{text}");
    assert!(!text.contains("one") && !text.contains("three"), "{text}");

    let span = ControlSpan {
        open: "<|system|>".into(),
        close: "<|endoftext|>".into(),
        ..span(Placement::PromptEnd)
    };
    let ids = encoder.encode_chat(&turns[..1], Some(&span)).unwrap();
    let place = |text| {
        let id = encoder.tokenizer().special_id(text).unwrap();
        ids.iter().position(|other| *other == id).unwrap()
    };
    assert!(place("<|endoftext|>") < place("<|assistant|>"));
}

#[test]
fn a_token_reads_with_the_blank_that_it_begins_with() {
    for model in DECODERS {
        let tokenizer = Tokenizer::load(&fixture(model)).unwrap();
        let ids = tokenizer.encode_plain("a a").unwrap();
        let last = *ids.last().unwrap();
        assert!(tokenizer.token_text(last).ends_with('a'), "{model}");
        let joined: String = ids.iter().map(|id| tokenizer.token_text(*id)).collect();
        assert_eq!(joined.trim_start(), "a a", "{model}");
    }
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

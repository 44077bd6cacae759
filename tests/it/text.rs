//! Tokenisation, chat rendering and detokenising against transformers, and forgery.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use steersman::text::{Detokenizer, PromptEncoder, StopMatcher, StopOutcome, TextError, Tokenizer};
use steersman::types::{ControlSpan, Message, Placement, TokenId};

use crate::fixtures::{DECODERS, fixture};

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

/// Pieces as a sequence's own task makes them.
fn streamed(tokenizer: &Arc<Tokenizer>, ids: &[TokenId]) -> Vec<String> {
    let mut stream = Detokenizer::new(Arc::clone(tokenizer));
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
    pieces.push(stream.finish());
    pieces
}

fn whole_characters(pieces: &[String]) -> bool {
    pieces.iter().all(|piece| !piece.contains('\u{FFFD}'))
}

/// A tokenizer of the SentencePiece kind: blanks as marks, unknown characters as bytes.
fn byte_fallback() -> Arc<Tokenizer> {
    let mut vocabulary = serde_json::Map::new();
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = ["<s>", "</s>", "\u{2581}", "a", "b", "\u{2581}a", "é", "ab"].map(String::from);
    for (id, piece) in pieces.into_iter().chain(bytes).enumerate() {
        vocabulary.insert(piece, id.into());
    }
    let special = |id: u32, content: &str| {
        serde_json::json!({
            "id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        })
    };
    let replace = |from: &str, to: &str| serde_json::json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let json = serde_json::json!({
        "version": "1.0",
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"}, replace(" ", "\u{2581}"),
        ]},
        "decoder": {"type": "Sequence", "decoders": [
            replace("\u{2581}", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "byte_fallback": true, "fuse_unk": true, "unk_token": null,
            "vocab": vocabulary, "merges": [["\u{2581}", "a"], ["a", "b"]],
        },
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    Arc::new(Tokenizer::load(dir.path()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn streamed_text_is_unstreamed_text_for_any_unicode(
        name in prop::sample::select(DECODERS.to_vec()),
        text in any::<String>(),
    ) {
        let tokenizer = Arc::new(Tokenizer::load(&fixture(name)).unwrap());
        let ids = tokenizer.encode_plain(&text).unwrap();
        let pieces = streamed(&tokenizer, &ids);
        prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids));
        if !text.contains('\u{FFFD}') {
            // whole characters only: half of one would have shown as the replacement character
            prop_assert!(whole_characters(&pieces), "{:?}", pieces);
        }
    }

    #[test]
    fn bytes_that_spell_characters_wait_for_their_run(
        text in "[ab é日👋]{0,12}",
        ids in prop::collection::vec(0u32..264, 0..40),
    ) {
        let tokenizer = byte_fallback();
        let encoded = tokenizer.encode_plain(&text).unwrap();
        let pieces = streamed(&tokenizer, &encoded);
        prop_assert_eq!(pieces.concat(), tokenizer.decode(&encoded));
        prop_assert!(whole_characters(&pieces), "{:?}", pieces);
        prop_assert_eq!(streamed(&tokenizer, &ids).concat(), tokenizer.decode(&ids));
    }

    #[test]
    fn no_part_of_a_stop_string_is_shown_however_the_tokens_fall(
        name in prop::sample::select(DECODERS.to_vec()),
        before in "[a-c日é ]{0,8}",
        stop in "[a-c日é]{1,4}",
        after in "[a-c日é ]{0,8}",
    ) {
        let tokenizer = Arc::new(Tokenizer::load(&fixture(name)).unwrap());
        let text = format!("{before}{stop}{after}");
        let ids = tokenizer.encode_plain(&text).unwrap();
        let whole = tokenizer.decode(&ids);
        let mut matcher = StopMatcher::new(vec![stop.clone()]);
        let mut shown = String::new();
        for piece in streamed(&tokenizer, &ids) {
            match matcher.push(&piece) {
                StopOutcome::Emit(text) => shown.push_str(&text),
                StopOutcome::Stopped(text) => {
                    shown.push_str(&text);
                    break;
                }
            }
            // what is shown is never taken back
            let end = whole.find(&stop).unwrap_or(whole.len());
            prop_assert!(whole[..end].starts_with(&shown), "{shown:?} of {whole:?}");
        }
        prop_assert_eq!(&shown, &whole[..whole.find(&stop).unwrap_or(whole.len())]);
    }
}

#[test]
fn a_template_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture("llama").join(file), folder.path().join(file)).unwrap();
    }
    std::fs::write(folder.path().join("chat_template.jinja"), [0xff, 0xfe]).unwrap();
    let error = PromptEncoder::load(folder.path()).err().unwrap();
    assert!(error.to_string().contains("chat_template.jinja"), "{error}");
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

//! Grammars over the fixtures' vocabularies, by walks that take any token that is allowed.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;

/// Slow machines and debug builds included.
const QUICK: Duration = Duration::from_secs(5);

fn tokenizer(name: &str) -> Tokenizer {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Tokenizer::load(&root.join(name)).expect("a fixture")
}

fn compiler(tokenizer: &Tokenizer) -> GrammarCompiler {
    GrammarCompiler::new(tokenizer, &tokenizer.eos_ids()).expect("a vocabulary")
}

/// Draws allowed tokens until the completion may end; text and whether it ended.
fn walk(tokenizer: &Tokenizer, state: &mut dyn TokenConstraint, seed: u64) -> (String, bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let ends = tokenizer.eos_ids();
    let mut set = TokenSet::new(tokenizer.vocab_size());
    let mut ids = Vec::new();
    for _ in 0..400 {
        state.allowed(&mut set).expect("a mask");
        let allowed: Vec<TokenId> = (0..tokenizer.vocab_size() as TokenId)
            .filter(|id| set.contains(*id))
            .collect();
        assert!(!allowed.is_empty(), "nothing may follow {ids:?}");
        if ends.iter().any(|end| set.contains(*end)) {
            return (tokenizer.decode(&ids), true);
        }
        let token = allowed[rng.random_range(0..allowed.len())];
        assert!(!tokenizer.is_special(token), "{token} is no text");
        state.advance(token).expect("allowed");
        ids.push(token);
    }
    (tokenizer.decode(&ids), false)
}

#[test]
fn whatever_is_drawn_fits_the_schema() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 6},
            "kind": {"enum": ["cat", "dog"]},
            "age": {"type": "integer", "minimum": 0, "maximum": 99},
            "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        },
        "required": ["name", "kind", "age", "tags"],
        "additionalProperties": false,
    });
    for name in ["llama", "gemma", "phi3", "qwen3"] {
        let tokenizer = tokenizer(name);
        let state = compiler(&tokenizer)
            .compile(&GrammarSource::JsonSchema(schema.clone()))
            .expect("sound");
        for seed in 0..8 {
            let (text, ended) = walk(&tokenizer, state.boxed_clone().as_mut(), seed);
            assert!(ended, "{name}: {text}");
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(value["name"].as_str().expect("a name").chars().count() <= 6);
            assert!(["cat", "dog"].contains(&value["kind"].as_str().expect("a kind")));
            assert!(value["age"].as_u64().expect("an age") <= 99);
            let tags = value["tags"].as_array().expect("tags");
            assert!(tags.len() <= 2 && tags.iter().all(Value::is_boolean));
            assert_eq!(value.as_object().expect("an object").len(), 4, "{text}");
        }
    }
}

#[test]
fn a_pattern_is_matched_as_a_whole() {
    let tokenizer = tokenizer("llama");
    let compiler = compiler(&tokenizer);
    for pattern in [
        "[a-c]{2,4}-\\d{3}",
        "^(yes|no)$",
        "a/b\\$",
        "\\d{4}/\\d{2}",
        "日本|naïve",
    ] {
        let whole = regex::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
        let source = GrammarSource::Regex(pattern.to_owned());
        let state = compiler.compile(&source).expect("sound");
        for seed in 0..6 {
            let (text, ended) = walk(&tokenizer, state.boxed_clone().as_mut(), seed);
            assert!(ended && whole.is_match(&text), "{pattern}: {text}");
        }
    }
}

#[test]
fn past_its_end_only_the_end_may_come() {
    let tokenizer = tokenizer("llama");
    let source = GrammarSource::Regex("ab".to_owned());
    let mut state = compiler(&tokenizer).compile(&source).expect("sound");
    let (text, _) = walk(&tokenizer, state.as_mut(), 0);
    assert_eq!(text, "ab");
    let mut set = TokenSet::new(tokenizer.vocab_size());
    state.allowed(&mut set).expect("a mask");
    let allowed: Vec<TokenId> = (0..1000).filter(|id| set.contains(*id)).collect();
    assert_eq!(allowed, tokenizer.eos_ids());
    state.advance(allowed[0]).expect("the end");
}

#[test]
fn a_copy_goes_its_own_way() {
    let tokenizer = tokenizer("llama");
    let source = GrammarSource::Regex("(ax|by)z".to_owned());
    let mut one = compiler(&tokenizer).compile(&source).expect("sound");
    let mut other = one.boxed_clone();
    let token = |text: &str| tokenizer.encode_plain(text).expect("text")[0];
    one.advance(token("a")).expect("allowed");
    let mut set = TokenSet::new(tokenizer.vocab_size());
    other.allowed(&mut set).expect("a mask");
    assert!(set.contains(token("b")));
    one.allowed(&mut set).expect("a mask");
    assert!(set.contains(token("x")) && !set.contains(token("b")));
}

#[test]
fn hostile_and_broken_grammars_are_refused_quickly() {
    let tokenizer = tokenizer("llama");
    let compiler = compiler(&tokenizer);
    let any_of: Vec<Value> = (0..300)
        .map(|i| json!({"type": "object", "properties": {format!("k{i}"): {"$ref": "#"}}}))
        .collect();
    let long = "x".repeat(MAX_GRAMMAR_BYTES + 1);
    for source in [
        GrammarSource::JsonSchema(json!({"$ref": "http://169.254.169.254/latest/meta-data"})),
        GrammarSource::JsonSchema(json!({"$ref": "file:///etc/passwd"})),
        GrammarSource::JsonSchema(json!({"type": "nothing"})),
        GrammarSource::JsonSchema(json!({"type": "object", "properties": 7})),
        GrammarSource::JsonSchema(json!([])),
        GrammarSource::JsonSchema(json!({"enum": [long.clone()]})),
        GrammarSource::JsonSchema(json!({"type": "string", "pattern": "(?=a)b"})),
        GrammarSource::JsonSchema(json!({"allOf": any_of})),
        GrammarSource::Regex(long),
        GrammarSource::Regex(String::new()),
        GrammarSource::Regex("(".to_owned()),
        GrammarSource::Regex("a\\".to_owned()),
    ] {
        let started = Instant::now();
        let found = compiler.compile(&source);
        let taken = started.elapsed();
        let told = format!("{source:?}").chars().take(100).collect::<String>();
        assert!(taken < QUICK, "{told}: {taken:?}");
        let words = found
            .err()
            .unwrap_or_else(|| panic!("{told} was taken"))
            .to_string();
        assert!(
            words.len() < 500 && !words.contains('\n'),
            "{told}: {words}"
        );
    }
}

#[test]
fn greedy_patterns_stay_quick_while_they_run() {
    let tokenizer = tokenizer("llama");
    let compiler = compiler(&tokenizer);
    for pattern in [
        "(a+)+b",
        "(a|aa)*c",
        "(a{1,100}){1,100}",
        // counted, not unrolled: so it is taken, and must stay quick
        "(a{1,30000}){1,30000}b{9999999}",
    ] {
        let started = Instant::now();
        let source = GrammarSource::Regex(pattern.to_owned());
        let mut state = compiler.compile(&source).expect("sound");
        walk(&tokenizer, state.as_mut(), 1);
        assert!(
            started.elapsed() < QUICK,
            "{pattern}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn a_model_that_cannot_end_takes_no_grammar() {
    let refused = GrammarCompiler::new(&tokenizer("llama"), &[]).expect_err("no end");
    assert_eq!(refused, GrammarError::NoEnd);
}

//! Checkpoints that cannot be used are refused in words: broken files, pickles, unknown features.

use std::path::Path;

use serde_json::{Value, json};
use steersman::model::classifier::SequenceClassifier;
use steersman::rewards::{ClassifierInput, ClassifierReward, RewardConfig, build};
use tempfile::TempDir;

use crate::fixtures::fixture;

/// A copy of a fixture's files whose `config.json` is changed.
fn copy(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        std::fs::copy(fixture(name).join(file), dir.path().join(file)).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
    dir
}

fn refusal(dir: &Path) -> String {
    SequenceClassifier::load(dir)
        .err()
        .expect("the folder cannot be used")
        .to_string()
}

#[test]
fn features_that_are_not_computed_are_refused_by_name() {
    let check = |name: &str, key: &str, value: Value| {
        let dir = copy(name, |config| config[key] = value.clone());
        let message = refusal(dir.path());
        let text = value.to_string();
        let value = text.trim_matches(['[', ']', '"']);
        let named = message.contains(key) || message.contains(value);
        assert!(
            named && message.contains("config.json"),
            "{name} {key}: {message}"
        );
    };
    check("rm_bert", "hidden_act", json!("mish"));
    check("rm_bert", "position_embedding_type", json!("relative_key"));
    check("rm_bert", "is_decoder", json!(true));
    check("rm_bert", "use_flash_mixing", json!(true));
    check("rm_bert", "architectures", json!(["BertForMaskedLM"]));
    check(
        "rm_bert",
        "architectures",
        json!(["RobertaForSequenceClassification"]),
    );
    check("rm_bert", "model_type", json!("albert"));
    check("rm_roberta", "add_cross_attention", json!(true));
    check("rm_gpt2", "activation_function", json!("mish"));
    check("rm_distilbert", "activation", json!("mish"));
    check("rm_deberta_v2", "conv_kernel_size", json!(3));
    check("rm_deberta_v2", "pos_att_type", json!(["p2p"]));
    check("rm_deberta_v2", "norm_rel_ebd", json!("batch_norm"));
    check("rm_deberta_v2", "relative_attention", json!(false));
    let dir = copy("rm_llama", |config| {
        config["rope_scaling"] = json!({"rope_type": "longrope", "factor": 4.0});
    });
    assert!(refusal(dir.path()).contains("`longrope`"));
}

#[test]
fn a_tensor_that_does_not_fit_is_refused_by_name() {
    let dir = copy("rm_bert", |config| config["hidden_size"] = json!(32));
    assert!(
        refusal(dir.path()).contains("tensor `"),
        "{}",
        refusal(dir.path())
    );
    let dir = copy("rm_bert", |config| config["num_hidden_layers"] = json!(1));
    assert!(
        refusal(dir.path()).contains("layer.1"),
        "{}",
        refusal(dir.path())
    );
    let dir = copy("rm_bert", |config| config["num_hidden_layers"] = json!(3));
    assert!(
        refusal(dir.path()).contains("layer.2"),
        "{}",
        refusal(dir.path())
    );
}

#[test]
fn a_truncated_file_is_refused() {
    for name in ["rm_gpt2", "rm_bert", "rm_llama"] {
        let dir = copy(name, |_| ());
        let path = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        for keep in [bytes.len() - 4, bytes.len() / 2, 100, 4, 0] {
            std::fs::write(&path, &bytes[..keep]).unwrap();
            let message = refusal(dir.path());
            assert!(
                message.contains("model.safetensors"),
                "{name} {keep}: {message}"
            );
        }
    }
}

#[test]
fn a_pickle_is_refused_with_the_reason() {
    let dir = copy("rm_bert", |_| ());
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    std::fs::write(dir.path().join("pytorch_model.bin"), b"\x80\x02}q\x00.").unwrap();
    let message = refusal(dir.path());
    assert!(
        message.contains("pickle") && message.contains("arbitrary code"),
        "{message}"
    );
}

#[test]
fn sequences_that_do_not_fit_are_refused() {
    let model = SequenceClassifier::load(&fixture("rm_bert")).unwrap();
    let check = |ids: Vec<u32>, types: Option<Vec<u32>>, says: &str| {
        let types = types.map(|types| vec![types]);
        let message = model.logits(&[ids], types.as_deref()).unwrap_err();
        let source = std::error::Error::source(&message).map(ToString::to_string);
        let text = format!("{message}: {source:?}");
        assert!(text.contains(says), "{text}");
    };
    check(vec![], None, "empty");
    check(vec![5; 97], None, "at most 96");
    check(vec![2, 366], None, "outside the vocabulary");
    check(vec![2, 3], Some(vec![0]), "differ in number");
    check(vec![2, 3], Some(vec![0, 2]), "token type 2");
}

#[test]
fn a_label_that_is_not_there_is_refused() {
    let load =
        |label| ClassifierReward::load(&fixture("rm_distilbert"), label, ClassifierInput::Auto);
    assert!(load(1).is_ok());
    assert!(
        load(2)
            .err()
            .expect("two labels")
            .to_string()
            .contains("has 2")
    );
}

#[test]
fn a_configuration_names_the_folder() {
    let config = json!({"kind": "classifier", "path": fixture("rm_distilbert"), "label": 1});
    let config: RewardConfig = serde_json::from_value(config).unwrap();
    assert_eq!(build(&config).unwrap().name(), "classifier rm_distilbert");
    let unknown = json!({"kind": "classifier", "path": "x", "device": "cuda"});
    assert!(serde_json::from_value::<RewardConfig>(unknown).is_err());
}

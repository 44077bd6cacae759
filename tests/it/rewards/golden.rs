//! The reward-model fixtures: logits as recorded, alone as in a batch, from ids and from text.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;
use steersman::model::ForwardBatch;
use steersman::model::classifier::{DecoderClassifier, SequenceClassifier};
use steersman::rewards::{ClassifierInput, ClassifierReward, Exchange, RewardModel};
use steersman::types::Message;

use crate::fixtures::{assert_close, fixture};

const FIXTURES: [&str; 6] = [
    "rm_gpt2",
    "rm_llama",
    "rm_bert",
    "rm_roberta",
    "rm_distilbert",
    "rm_deberta_v2",
];
const TOLERANCE: f32 = 1e-4;

struct Golden {
    name: &'static str,
    tensors: HashMap<String, Tensor>,
    json: Value,
    model: SequenceClassifier,
}

impl Golden {
    fn load(name: &'static str) -> Self {
        let dir = fixture(name);
        let tensors =
            candle_core::safetensors::load(dir.join("golden.safetensors"), &Device::Cpu).unwrap();
        let text = std::fs::read_to_string(dir.join("golden.json")).unwrap();
        let json = serde_json::from_str(&text).unwrap();
        Self {
            name,
            tensors,
            json,
            model: SequenceClassifier::load(&dir).unwrap(),
        }
    }

    fn rows(&self, name: &str) -> Vec<Vec<u32>> {
        self.tensors[name]
            .to_dtype(DType::U32)
            .unwrap()
            .to_vec2()
            .unwrap()
    }

    /// The rows of `name` where the mask `mask` is 1.
    fn unpadded(&self, name: &str, mask: &str) -> Vec<Vec<u32>> {
        let keep = |(row, mask): (Vec<u32>, Vec<u32>)| {
            row.into_iter()
                .zip(mask)
                .filter(|(_, mask)| *mask == 1)
                .map(|(id, _)| id)
                .collect()
        };
        self.rows(name)
            .into_iter()
            .zip(self.rows(mask))
            .map(keep)
            .collect()
    }

    fn expect(&self, what: &str, actual: &[Vec<f32>]) {
        let expected: Vec<f32> = self.tensors[what].flatten_all().unwrap().to_vec1().unwrap();
        assert_close(
            &format!("{} {what}", self.name),
            &actual.concat(),
            &expected,
            TOLERANCE,
        );
    }
}

#[test]
fn logits_are_those_of_the_golden_files() {
    for name in FIXTURES {
        let golden = Golden::load(name);
        let ids = golden.unpadded("input_ids", "attention_mask");
        let types = golden
            .tensors
            .contains_key("token_type_ids")
            .then(|| golden.unpadded("token_type_ids", "attention_mask"));
        let logits = golden.model.logits(&ids, types.as_deref()).unwrap();
        golden.expect("logits", &logits);
        golden.expect("logits_unpadded", &logits);
        let joined = golden.unpadded("joined_input_ids", "joined_attention_mask");
        golden.expect(
            "joined_logits",
            &golden.model.logits(&joined, None).unwrap(),
        );
    }
}

#[test]
fn a_sequence_alone_scores_as_in_a_batch() {
    for name in FIXTURES {
        let golden = Golden::load(name);
        let mut ids = golden.unpadded("joined_input_ids", "joined_attention_mask");
        ids.push(ids[0][..1].to_vec());
        ids.push(ids[1][..5].to_vec());
        let together = golden.model.logits(&ids, None).unwrap();
        for (ids, expected) in ids.into_iter().zip(together) {
            let alone = golden.model.logits(&[ids], None).unwrap().remove(0);
            assert_close(name, &alone, &expected, 1e-6);
        }
    }
}

#[test]
fn texts_become_the_tokens_of_the_golden_files() {
    for name in FIXTURES {
        let golden = Golden::load(name);
        let text = |key: &str, row: usize| golden.json[key][row].as_str().unwrap().to_owned();
        for (input, what) in [
            (ClassifierInput::Pair, "logits"),
            (ClassifierInput::Joined, "joined_logits"),
        ] {
            let reward = ClassifierReward::load(&fixture(name), 0, input).unwrap();
            let prompts: Vec<[Message; 1]> = (0..4)
                .map(|row| [Message::user(text("questions", row))])
                .collect();
            let answers: Vec<String> = (0..4).map(|row| text("answers", row)).collect();
            let exchanges: Vec<Exchange<'_>> = prompts
                .iter()
                .zip(&answers)
                .map(|(prompt, completion)| Exchange {
                    prompt,
                    completion,
                    completion_tokens: 1,
                    finished: true,
                    record: &Value::Null,
                })
                .collect();
            let scores = reward.score(&exchanges).unwrap();
            let labels = golden.model.num_labels();
            let all: Vec<f32> = golden.tensors[what]
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            let expected: Vec<f32> = all.into_iter().step_by(labels).collect();
            assert_close(&format!("{name} {what}"), &scores, &expected, TOLERANCE);
        }
    }
}

#[test]
fn a_decoders_scores_have_gradients_and_are_its_logits() {
    let loaded = DecoderClassifier::load(&fixture("rm_llama")).unwrap();
    let score = Var::from_tensor(loaded.score()).unwrap();
    let model = DecoderClassifier::new(loaded.decoder().clone(), score.as_tensor().clone());
    let model = model.unwrap();
    let mut batch = ForwardBatch::default();
    let ids = [vec![7u32, 8, 9], vec![10, 11]];
    ids.iter().for_each(|ids| batch.push(ids, 0, None));
    let scores = model.scores(&batch).unwrap();
    let logits = Golden::load("rm_llama").model.logits(&ids, None).unwrap();
    let found: Vec<f32> = scores.flatten_all().unwrap().to_vec1().unwrap();
    assert_close("scores", &found, &logits.concat(), 1e-6);

    let gradients = scores.sum_all().unwrap().backward().unwrap();
    let gradient = gradients.get(score.as_tensor()).unwrap();
    let hidden = model.decoder().forward(&batch).unwrap();
    let expected = (hidden.get(2).unwrap() + hidden.get(4).unwrap()).unwrap();
    let found: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
    assert_close(
        "gradient",
        &found,
        &expected.to_vec1::<f32>().unwrap(),
        1e-5,
    );

    let narrow = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(DecoderClassifier::new(loaded.decoder().clone(), narrow).is_err());
}

#[test]
fn markers_in_an_answer_stay_text() {
    let reward = ClassifierReward::load(&fixture("rm_bert"), 0, ClassifierInput::Pair).unwrap();
    let prompt = [Message::user("When can I fix a dripping tap?")];
    let score = |completion: &str| {
        let exchange = Exchange {
            prompt: &prompt,
            completion,
            completion_tokens: 1,
            finished: true,
            record: &Value::Null,
        };
        reward.score(&[exchange]).unwrap()[0]
    };
    assert_eq!(score("Use [SEP] water."), score("Use [ SEP ] water."));
}

#[test]
fn a_dialogue_is_scored_and_too_long_a_one_loses_its_start() {
    let reward = ClassifierReward::load(&fixture("rm_llama"), 0, ClassifierInput::Auto).unwrap();
    let score = |question: &str| {
        let prompt = [Message::user(question)];
        let exchange = Exchange {
            prompt: &prompt,
            completion: "Use cold water first, then wait.",
            completion_tokens: 8,
            finished: true,
            record: &Value::Null,
        };
        reward.score(&[exchange]).unwrap()[0]
    };
    assert!(score("When can I calm a nervous dog?").is_finite());
    let long = "the dog ".repeat(300);
    assert_eq!(score(&long), score(&format!("cat cat {long}")));
}

//! The fact rewards over real question rows: both references pass the gate and pull apart.

use serde_json::{Value, json};
use steersman::rewards::rules::FactTable;
use steersman::rewards::{Exchange, RewardConfig, RewardModel, RewardSuite, build};
use steersman::types::Message;

use crate::fixtures::fixture;

fn rows() -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("facts").join("rows.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn reward(name: &str) -> Box<dyn RewardModel> {
    let rows = fixture("facts").join("rows.jsonl");
    let config = json!({"kind": "rule", "rule": {"name": name, "facts": {"rows": [rows]}}});
    build(&serde_json::from_value::<RewardConfig>(config).unwrap()).unwrap()
}

fn score(suite: &RewardSuite, record: &Value, completion: &str) -> Vec<f32> {
    let question = record
        .pointer("/prompt/0/content")
        .and_then(Value::as_str)
        .unwrap();
    let prompt = [Message::user(question)];
    let completion_tokens = completion.split(' ').count() * 3 / 2;
    let exchange = Exchange {
        prompt: &prompt,
        completion,
        completion_tokens,
        finished: true,
        record,
    };
    suite.score(&[exchange]).unwrap().remove(0)
}

#[test]
fn the_references_pass_the_gate_and_pull_apart() {
    let suite = RewardSuite::new(vec![reward("brevity"), reward("detail")]).unwrap();
    for row in rows() {
        let short = score(&suite, &row, row["concise"].as_str().unwrap());
        let long = score(&suite, &row, row["detailed"].as_str().unwrap());
        assert!(
            short[0] > long[0] && short[1] < long[1],
            "{row}: {short:?} {long:?}"
        );
        assert!(
            long[1] >= 2.0 && short[1] == 1.0,
            "{row}: {short:?} {long:?}"
        );
        let wrong = score(&suite, &row, "It is something else.");
        assert!(
            wrong[0] < long[0] && wrong[1] < short[1],
            "{row}: {wrong:?}"
        );
        assert_eq!(score(&suite, &row, ""), wrong);
    }
}

#[test]
fn a_question_is_known_by_its_text_alone() {
    let rows = rows();
    let mut table = FactTable::default();
    rows.iter().for_each(|row| table.add(row).unwrap());
    let prompt = [Message::user("what is the capital of FIJI")];
    let exchange = Exchange {
        prompt: &prompt,
        completion: "Suva. Fiji is in Oceania. The climate is arctic.",
        completion_tokens: 12,
        finished: true,
        record: &Value::Null,
    };
    let verdict = table.judge(&exchange).unwrap();
    assert!(verdict.right);
    assert_eq!((verdict.true_facts, verdict.false_sentences), (2, 1));
}

//! Each shape, against a server that knows only the fields of its documentation and answers, where
//! it may, in another order.

use serde_json::{Map, Value, json};

use super::stand_in::{ANSWERS, Says, StandIn, score};

/// Fields of a request, all of which are read exactly once.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(body: &Value) -> Self {
        Self(body.as_object().unwrap().clone())
    }

    fn take(&mut self, name: &str) -> Value {
        let value = self.0.remove(name);
        value.unwrap_or_else(|| panic!("`{name}` is missing"))
    }

    fn texts(&mut self, name: &str) -> Vec<String> {
        serde_json::from_value(self.take(name)).unwrap()
    }

    fn end(self) {
        assert!(self.0.is_empty(), "unknown fields: {:?}", self.0);
    }
}

/// What every stand-in thinks of an answer.
fn value(answer: &str) -> f64 {
    answer.len() as f64 / 2.0 - 3.0
}

fn expected() -> Vec<f32> {
    ANSWERS.map(|(_, answer)| value(answer) as f32).to_vec()
}

/// The answer's part of prompt and answer in one text.
fn answer_of(whole: &str) -> &str {
    let found = ANSWERS
        .iter()
        .find(|(prompt, answer)| whole == format!("{prompt} {answer}"));
    found.unwrap_or_else(|| panic!("{whole}")).1
}

/// Rows with their index, last first.
fn reversed(rows: impl Iterator<Item = Value>) -> Value {
    let mut rows: Vec<Value> = rows
        .enumerate()
        .map(|(index, mut row)| {
            row["index"] = json!(index);
            row
        })
        .collect();
    rows.reverse();
    Value::Array(rows)
}

/// Rows with their index, best first.
fn best_first(answers: &[String], name: &str) -> Value {
    let mut order: Vec<usize> = (0..answers.len()).collect();
    order.sort_by(|a, b| value(&answers[*b]).total_cmp(&value(&answers[*a])));
    let row = |index: usize| json!({"index": index, name: value(&answers[index])});
    order.into_iter().map(row).collect()
}

fn check(shape: &str, more: Value, requests: usize, answer: fn(&mut Fields) -> Value) {
    let server = StandIn::start(move |_, body| {
        let mut fields = Fields::of(body);
        let answer = answer(&mut fields);
        fields.end();
        Says::Json(answer)
    });
    let mut config = json!({"kind": "http", "url": server.url, "shape": shape, "batch": 3});
    let config_fields = config.as_object_mut().unwrap();
    config_fields.extend(more.as_object().unwrap().clone());
    assert_eq!(score(&config).unwrap(), expected(), "{shape}");
    assert_eq!(server.asked().len(), requests, "{shape}");
}

#[test]
fn openrlhf_gets_whole_texts_prompts_and_labels() {
    check("openrlhf", json!({}), 2, |fields| {
        let whole = fields.texts("query");
        let prompts = fields.texts("prompts");
        let labels = fields.texts("labels");
        assert!(whole.iter().zip(&prompts).all(|(w, p)| w.starts_with(p)));
        assert!(labels.len() == whole.len() && labels.iter().all(|l| l == "the truth"));
        let rewards: Vec<_> = whole.iter().map(|w| value(answer_of(w))).collect();
        json!({"rewards": rewards, "scores": rewards, "extra_logs": {"length": rewards}})
    });
}

#[test]
fn vllm_classify_is_asked_for_raw_values_and_one_label_counts() {
    check(
        "vllm_classify",
        json!({"model": "rm", "label": 1}),
        2,
        |fields| {
            assert_eq!(fields.take("model"), "rm");
            assert_eq!(fields.take("use_activation"), false);
            let rows = fields.texts("input");
            let rows = rows.iter().map(|whole| {
                let probs = [-99.0, value(answer_of(whole)), 99.0];
                json!({"label": "good", "probs": probs, "num_classes": 3})
            });
            json!({"id": "x", "data": reversed(rows), "usage": {"total_tokens": 3}})
        },
    );
}

#[test]
fn vllm_score_gets_pairs() {
    check("vllm_score", json!({"model": "rm"}), 2, |fields| {
        assert_eq!(fields.take("model"), "rm");
        let (queries, documents) = (fields.texts("queries"), fields.texts("documents"));
        for pair in queries.iter().zip(&documents) {
            assert!(
                ANSWERS.contains(&(pair.0.as_str(), pair.1.as_str())),
                "{pair:?}"
            );
        }
        let rows = documents
            .iter()
            .map(|d| json!({"object": "score", "score": value(d)}));
        json!({"data": reversed(rows)})
    });
}

#[test]
fn vllm_pooling_gives_a_vector_or_one_for_each_token() {
    for tokens in [false, true] {
        let answer: fn(&mut Fields) -> Value = match tokens {
            false => |fields| {
                assert_eq!(fields.take("model"), "rm");
                let rows = fields.texts("input");
                let rows = rows
                    .iter()
                    .map(|w| json!({"object": "pooling", "data": [value(answer_of(w))]}));
                json!({"data": reversed(rows)})
            },
            true => |fields| {
                assert_eq!(fields.take("model"), "rm");
                let rows = fields.texts("input");
                let rows = rows.iter().map(
                    |w| json!({"object": "pooling", "data": [[0.0], [1.0], [value(answer_of(w))]]}),
                );
                json!({"data": reversed(rows)})
            },
        };
        check("vllm_pooling", json!({"model": "rm"}), 2, answer);
    }
}

#[test]
fn rerankers_get_one_prompt_at_a_time_and_answer_best_first() {
    check("vllm_rerank", json!({"model": "rm"}), 3, |fields| {
        assert_eq!(fields.take("model"), "rm");
        let (query, documents) = (fields.take("query"), fields.texts("documents"));
        let query = query.as_str().unwrap();
        assert!(
            documents
                .iter()
                .all(|d| ANSWERS.contains(&(query, d.as_str())))
        );
        json!({"results": best_first(&documents, "relevance_score")})
    });
    check("tei_rerank", json!({}), 3, |fields| {
        assert_eq!(fields.take("raw_scores"), true);
        assert_eq!(fields.take("truncate"), true);
        let (query, texts) = (fields.take("query"), fields.texts("texts"));
        let query = query.as_str().unwrap();
        assert!(texts.iter().all(|d| ANSWERS.contains(&(query, d.as_str()))));
        best_first(&texts, "score")
    });
}

#[test]
fn tei_predict_gets_a_list_of_pairs_even_for_one() {
    let label = json!({"label": "good", "batch": 2});
    check("tei_predict", label, 3, |fields| {
        assert_eq!(fields.take("raw_scores"), true);
        assert_eq!(fields.take("truncate"), true);
        // two bare texts would be one pair to the server
        let pairs: Vec<[String; 2]> = serde_json::from_value(fields.take("inputs")).unwrap();
        let labels = pairs.iter().map(|[prompt, answer]| {
            assert!(
                ANSWERS.contains(&(prompt.as_str(), answer.as_str())),
                "{prompt} {answer}"
            );
            let mut labels = [("good", value(answer)), ("bad", -value(answer))];
            // sorted by score, as the server does
            labels.sort_by(|a, b| b.1.total_cmp(&a.1));
            labels.map(|(label, score)| json!({"label": label, "score": score}))
        });
        json!(labels.collect::<Vec<_>>())
    });
}

#[test]
fn a_line_maps_the_values_and_a_key_is_sent_where_one_is_named() {
    let server = StandIn::start(|_, body| {
        let count = body["query"].as_array().unwrap().len();
        Says::Json(json!({"rewards": vec![2.0; count]}))
    });
    let config = json!({
        "kind": "http", "url": server.url, "shape": "openrlhf", "scale": 0.5, "shift": -3,
        "transcript": "hh",
    });
    assert_eq!(score(&config).unwrap(), [-2.0; 5]);
    assert_eq!(server.keys(), [None]);
    let whole = &server.asked()[0]["query"][0];
    assert_eq!(whole, "\n\nHuman: Is it far?\n\nAssistant: No.");
}

#[test]
fn settings_that_do_not_go_with_the_shape_are_refused() {
    let check = |more: Value, says: &str| {
        let mut config = json!({"kind": "http", "url": "http://127.0.0.1:1/"});
        let fields = config.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let error = score(&config).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    check(json!({"shape": "vllm_score"}), "`model` is missing");
    check(json!({"shape": "openrlhf", "model": "x"}), "no effect");
    check(
        json!({"shape": "vllm_classify", "model": "x", "label": "good"}),
        "is a name",
    );
    check(json!({"shape": "tei_predict", "label": 1}), "is a place");
    check(json!({"shape": "openrlhf", "label": 1}), "no effect");
    check(json!({"shape": "openrlhf", "batch": 0}), "`batch` is 0");
    check(json!({"shape": "openrlhf", "scale": 0.0}), "`scale` is 0");
    check(
        json!({"shape": "openrlhf", "timeout_seconds": 0}),
        "`timeout_seconds` is 0",
    );
}

//! Every request of a run, from the workload and what the server takes.

use hyper::body::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::survey::Survey;
use super::words::text;
use super::workload::{Api, WeightsMix, Workload};

/// Largest seed that all servers take.
const SEEDS: u64 = 1 << 31;

/// A workload for one server.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is asked.
    pub workload: Workload,
    /// Who is asked.
    pub survey: Survey,
}

impl Plan {
    /// The body of the request of this place. No two places have the same prompt.
    pub(super) fn streamed(&self, place: usize) -> Bytes {
        let mut body = body(
            &self.workload,
            &self.survey,
            self.survey.prompt_words,
            place,
        );
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({"include_usage": true}));
        Value::Object(body).to_string().into()
    }
}

/// A request with a prompt of so many words.
pub(super) fn body(
    workload: &Workload,
    survey: &Survey,
    words: usize,
    place: usize,
) -> Map<String, Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(workload.seed);
    rng.set_stream(place as u64);
    let text = text(words, &mut rng);
    let mut body = Map::new();
    body.insert("model".into(), survey.model.clone().into());
    match workload.api {
        Api::Chat => body.insert(
            "messages".into(),
            json!([{"role": "user", "content": text}]),
        ),
        Api::Completions => body.insert("prompt".into(), text.into()),
    };
    body.insert("max_tokens".into(), workload.output_tokens.into());
    body.insert("temperature".into(), workload.temperature.into());
    let seed = workload.seed.wrapping_add(place as u64) % SEEDS;
    body.insert("seed".into(), seed.into());
    if survey.ignores_eos {
        body.insert("ignore_eos".into(), true.into());
    }
    if let Some(mix) = workload.weights {
        let weights = weights(mix, &survey.objectives, &mut rng);
        body.insert("objective_weights".into(), weights.into());
    }
    body
}

fn weights(mix: WeightsMix, objectives: &[String], rng: &mut impl Rng) -> Map<String, Value> {
    let shares: Vec<f64> = match mix {
        WeightsMix::Same => vec![1.0; objectives.len()],
        // exponential draws, normalised, are even on the simplex
        WeightsMix::Mixed => objectives
            .iter()
            .map(|_| -(1.0 - rng.random::<f64>()).ln())
            .collect(),
    };
    let total: f64 = shares.iter().sum();
    let weights = shares
        .iter()
        .map(|share| (share / total * 1000.0).round() / 1000.0);
    let weights = objectives.iter().cloned().zip(weights);
    weights
        .map(|(name, weight)| (name, weight.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(weights: Option<WeightsMix>) -> Plan {
        Plan {
            workload: Workload {
                api: Api::Chat,
                prompt_tokens: 8,
                output_tokens: 4,
                requests: 64,
                warm_up: 0,
                temperature: 1.0,
                seed: 5,
                weights,
            },
            survey: Survey {
                model: "m".into(),
                version: None,
                ignores_eos: true,
                prompt_words: 8,
                objectives: vec!["a".into(), "b".into()],
            },
        }
    }

    fn bodies(weights: Option<WeightsMix>) -> Vec<Value> {
        let plan = plan(weights);
        let bodies = (0..64).map(|place| plan.streamed(place));
        bodies
            .map(|body| serde_json::from_slice(&body).expect("JSON"))
            .collect()
    }

    fn distinct(bodies: &[Value], field: &str) -> usize {
        let texts: BTreeSet<String> = bodies.iter().map(|b| b[field].to_string()).collect();
        texts.len()
    }

    #[test]
    fn every_prompt_is_another_and_a_run_repeats() {
        let first = bodies(Some(WeightsMix::Mixed));
        assert_eq!(distinct(&first, "messages"), 64);
        assert_eq!(first, bodies(Some(WeightsMix::Mixed)));
    }

    #[test]
    fn weights_are_the_same_or_all_distinct_and_the_prompts_do_not_depend_on_it() {
        let (same, mixed) = (
            bodies(Some(WeightsMix::Same)),
            bodies(Some(WeightsMix::Mixed)),
        );
        assert_eq!(distinct(&same, "objective_weights"), 1);
        assert!(distinct(&mixed, "objective_weights") > 60);
        for (same, mixed) in same.iter().zip(&mixed) {
            assert_eq!(same["messages"], mixed["messages"]);
        }
        assert_eq!(bodies(None)[0]["objective_weights"], Value::Null);
    }
}

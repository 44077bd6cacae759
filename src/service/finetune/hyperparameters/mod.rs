//! The hyperparameters of each method: names, ranges, and where each stands in a job's settings.
//!
//! One table a method. Requests are checked against it, the API's document is written from it,
//! and what a job shows back is read through it, so the three cannot differ.

mod method;
mod range;
mod tables;

use serde_json::{Map, Value, json};

use super::FineTuningError;
pub use method::Method;
pub use range::Range;
pub use tables::hyperparameters;

/// One hyperparameter.
#[derive(Debug, Clone, Copy)]
pub struct Hyperparameter {
    /// Its name in the API.
    pub name: &'static str,
    /// Where it stands in the job's settings, parts joined by dots; empty where it is only used
    /// to find others.
    pub(super) path: &'static str,
    /// Which values it takes.
    pub range: Range,
    /// What it does.
    pub about: &'static str,
}

/// Only used to find the number of steps and the learning rate.
pub(super) const EPOCHS: &str = "n_epochs";
pub(super) const STEPS: &str = "steps";
pub(super) const MULTIPLIER: &str = "learning_rate_multiplier";
/// Two ways to say how large a step over texts is.
pub(super) const BATCH_SIZE: &str = "batch_size";
pub(super) const BATCH_TOKENS: &str = "batch_tokens";
pub(super) const RATE: &str = "learning_rate";

/// Holds what a request gives against the method's table; `at` is where it stands. Returns it
/// without what asks for the default, `null` and `"auto"`.
pub(super) fn checked(
    method: Method,
    given: &Map<String, Value>,
    at: &str,
) -> Result<Map<String, Value>, FineTuningError> {
    let table = hyperparameters(method);
    let mut kept = Map::new();
    for (name, value) in given {
        let param = format!("{at}.{name}");
        let Some(row) = table.iter().find(|row| row.name == name) else {
            let known: Vec<_> = table.iter().map(|row| row.name).collect();
            let problem = format!(
                "is no hyperparameter of {}; it has {}",
                method.as_str(),
                known.join(", ")
            );
            return Err(FineTuningError::invalid(param, problem));
        };
        if value.is_null() || value == "auto" {
            continue;
        }
        if !row.range.holds(value) {
            let problem = format!("must be {}, got {value}", row.range.words());
            return Err(FineTuningError::invalid(param, problem));
        }
        kept.insert(name.clone(), value.clone());
    }
    for (one, other) in [
        (EPOCHS, STEPS),
        (MULTIPLIER, RATE),
        (BATCH_TOKENS, BATCH_SIZE),
    ] {
        if kept.contains_key(one) && kept.contains_key(other) {
            let problem = format!("and `{other}` say the same thing twice; send one of them");
            return Err(FineTuningError::invalid(format!("{at}.{one}"), problem));
        }
    }
    Ok(kept)
}

/// Writes what was given into a job's settings.
pub(super) fn write(method: Method, given: &Map<String, Value>, settings: &mut Value) {
    for row in hyperparameters(method) {
        if let Some(value) = given.get(row.name)
            && !row.path.is_empty()
        {
            set(settings, row.path, value.clone());
        }
    }
}

/// Reads every hyperparameter from the settings in effect.
pub(super) fn shown(method: Method, settings: &Value) -> Map<String, Value> {
    hyperparameters(method)
        .into_iter()
        .filter(|row| !row.path.is_empty())
        .map(|row| {
            let pointer = format!("/{}", row.path.replace('.', "/"));
            let value = settings.pointer(&pointer).cloned().unwrap_or_default();
            (row.name.to_owned(), plain(value))
        })
        .collect()
}

/// The API's name of what a job's settings call `path`.
pub(super) fn name_of(method: Method, path: &str) -> Option<&'static str> {
    let table = hyperparameters(method);
    let found = table.iter().find(|row| row.path == path);
    found.map(|row| row.name)
}

/// Puts a value into nested objects, making those that are missing.
pub(super) fn set(settings: &mut Value, path: &str, value: Value) {
    let mut place = settings;
    for part in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}

/// A number that was kept in single precision, as a person would write it: 0.7, not
/// 0.699999988079071.
fn plain(value: Value) -> Value {
    let Some(wide) = value.as_f64().filter(|_| value.is_f64()) else {
        return value;
    };
    let narrow = wide as f32;
    match narrow.to_string().parse::<f64>() {
        Ok(short) if f64::from(narrow) == wide => json!(short),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_method_has_a_name_or_a_place_twice() {
        for method in Method::ALL {
            let table = hyperparameters(method);
            for (index, row) in table.iter().enumerate() {
                for other in &table[..index] {
                    assert_ne!(row.name, other.name);
                    assert!(
                        row.path.is_empty() || row.path != other.path,
                        "{}",
                        row.path
                    );
                }
            }
            assert_eq!(Method::parse(method.as_str()), Some(method));
        }
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        let check = |given: Value, words: &[&str]| {
            let given = given.as_object().expect("an object").clone();
            let told = checked(Method::MoOdpo, &given, "h")
                .unwrap_err()
                .to_string();
            for word in words {
                assert!(told.contains(word), "`{word}` is not in: {told}");
            }
        };
        check(
            json!({"temperature": 3}),
            &["`h.temperature`", "0.05 to 2", "got 3"],
        );
        check(json!({"temperature": "hot"}), &["0.05 to 2", "got \"hot\""]);
        check(json!({"batch_size": 1.5}), &["whole number from 1 to 4096"]);
        check(json!({"beta": 0}), &["above 0"]);
        check(json!({"loss": "dpo"}), &["sigmoid, sigmoid_norm"]);
        check(json!({"mi_term": 1}), &["true or false"]);
        check(json!({"lora_target_modules": []}), &["at least one"]);
        check(json!({"epochs": 1}), &["`h.epochs`", "n_epochs"]);
        check(json!({"steps": 1, "n_epochs": 1}), &["twice"]);
        let both = json!({"batch_size": 1, "batch_tokens": 64});
        let both = checked(
            Method::Supervised,
            both.as_object().expect("an object"),
            "h",
        );
        assert!(both.unwrap_err().to_string().contains("twice"));
        let kept = json!({"beta": "auto", "top_k": null, "n_epochs": 2});
        let kept = checked(Method::MoOdpo, kept.as_object().expect("an object"), "h");
        assert_eq!(
            kept.expect("sound"),
            *json!({"n_epochs": 2}).as_object().expect("an object")
        );
    }

    #[test]
    fn numbers_are_shown_as_a_person_writes_them() {
        assert_eq!(plain(json!(0.7_f32)), json!(0.7));
        assert_eq!(plain(json!(4e-5_f64)), json!(4e-5));
        assert_eq!(plain(json!(64)), json!(64));
    }
}

//! The schema of a job's method, written from the tables that requests are checked against.

use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::service::{Hyperparameter, Method, Range, hyperparameters};

/// `{"type": TYPE, TYPE: {"hyperparameters": {…}, …}}`.
pub(super) struct MethodSchema;

impl PartialSchema for MethodSchema {
    fn schema() -> RefOr<Schema> {
        let mut properties = Map::new();
        let types = Method::ALL.map(Method::as_str);
        properties.insert(
            "type".to_owned(),
            json!({"type": "string", "enum": types, "description": "What is trained."}),
        );
        for method in Method::ALL {
            properties.insert(method.as_str().to_owned(), part(method));
        }
        let schema = json!({
            "type": "object",
            "required": ["type"],
            "properties": properties,
            "additionalProperties": false,
            "description": "What is trained, and how: `type`, and under its name what belongs to \
                            it. Hyperparameters that are left out, null or `auto` get their \
                            defaults, which the job shows.",
        });
        // what stands above is a schema
        RefOr::T(serde_json::from_value(schema).unwrap_or_default())
    }
}

impl ToSchema for MethodSchema {
    fn name() -> std::borrow::Cow<'static, str> {
        "FineTuningMethod".into()
    }
}

fn part(method: Method) -> Value {
    let own: Map<String, Value> = hyperparameters(method)
        .into_iter()
        .map(|row| (row.name.to_owned(), one(row)))
        .collect();
    let mut properties = Map::new();
    properties.insert(
        "hyperparameters".to_owned(),
        json!({"type": "object", "properties": own, "additionalProperties": false}),
    );
    match method {
        Method::MoOdpo => {
            properties.insert("objectives".to_owned(), objectives(true));
            properties.insert("conditioning".to_owned(), conditioning());
            properties.insert("description".to_owned(), text("What the policy is for."));
        }
        Method::Supervised => {}
        Method::Dpo => {
            properties.insert(
                "objective".to_owned(),
                text("Only pairs of this objective."),
            );
            properties.insert("objectives".to_owned(), objectives(false));
            properties.insert("conditioning".to_owned(), conditioning());
            properties.insert("description".to_owned(), text("What the policy is for."));
        }
        Method::RewardModel => {
            properties.insert(
                "objective".to_owned(),
                text("Only pairs of this objective."),
            );
        }
    }
    let mut part = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if method == Method::MoOdpo {
        part["required"] = json!(["objectives"]);
    }
    part
}

/// One hyperparameter; each may also be `auto`.
fn one(row: &Hyperparameter) -> Value {
    let value = match row.range {
        Range::Whole { least, most } => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Range::Number { least, most } => {
            json!({"type": "number", "minimum": least, "maximum": most})
        }
        Range::Above { most } => {
            json!({"type": "number", "exclusiveMinimum": 0, "maximum": most})
        }
        Range::Flag => json!({"type": "boolean"}),
        Range::Choice(words) => json!({"type": "string", "enum": words}),
        Range::Words => {
            json!({"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}})
        }
    };
    let auto = json!({"type": "string", "enum": ["auto"]});
    json!({"oneOf": [value, auto], "description": row.about})
}

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

/// What is traded off, with rewards where the method asks for them.
fn objectives(with_rewards: bool) -> Value {
    let mut one = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,31}$"},
            "description": {"type": "string", "description": "For those who set its weight."},
            "default_weight": {"type": "number", "minimum": 0},
            "min_weight": {"type": "number", "minimum": 0},
            "max_weight": {"type": "number", "minimum": 0},
        },
    });
    if with_rewards {
        one["required"] = json!(["name", "reward"]);
        one["properties"]["reward"] = json!({
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"type": "string"}},
            "description": "Where its reward comes from, as in a job file of `steersman train`: \
                            `{\"kind\": \"rule\", \"rule\": {\"name\": …}}` or `{\"kind\": \
                            \"classifier\", \"path\": FOLDER}`.",
        });
    }
    json!({
        "type": "array",
        "minItems": 1,
        "description": "What is traded off, in the order that the policy will know.",
        "items": one,
    })
}

fn conditioning() -> Value {
    json!({
        "type": "object",
        "required": ["open", "close", "template", "decimals"],
        "description": "How the policy is told the weights; the model's own where it has one.",
        "properties": {
            "kind": {"type": "string", "enum": ["weights_text", "score_tokens", "attributes"]},
            "open": {"type": "string", "description": "Special token that opens the span."},
            "close": {"type": "string", "description": "Special token that closes it."},
            "template": {
                "type": "string",
                "description": "Text with `{objective}` or `{objective:word}` once for each.",
            },
            "decimals": {"type": "integer", "minimum": 0, "maximum": 4},
            "placement": {"type": "string"},
            "targets": {
                "type": "array",
                "description": "Of score_tokens and attributes: for each objective in its order, \
                                what it is asked for at no weight and at most weight.",
                "items": {
                    "type": "object",
                    "required": ["low", "high"],
                    "properties": {"low": {"type": "number"}, "high": {"type": "number"}},
                },
            },
            "rule": {"type": "string", "enum": ["linear", "l2", "linf"]},
        },
    })
}

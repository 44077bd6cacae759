//! The evaluation gate: what a checkpoint must have been measured at before it goes live.
//!
//! Steerability and score both count: a policy can score well and ignore its weights.

use serde_json::Value;

use crate::steering::SteeringManifest;

/// What is asked of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateSettings {
    /// Least rank correlation of each objective's weight with its reward; `None` asks for none,
    /// measured or not.
    pub min_spearman: Option<f64>,
    /// How far its mean inner product of weights and normalised rewards may lie below the live
    /// policy's.
    pub max_score_loss: f64,
    /// Most mean KL of a sequence to the reference, in nats; `None` is no cap.
    pub max_kl: Option<f64>,
    /// What its score is held against.
    pub baseline: GateBaseline,
}

/// What a score is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateBaseline {
    /// The live policy, where there is one.
    Live,
    /// Nothing: the operator decided.
    Nothing,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            min_spearman: Some(0.8),
            max_score_loss: 0.0,
            max_kl: None,
            baseline: GateBaseline::Live,
        }
    }
}

/// One thing that the gate looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct GateFinding {
    /// `objectives`, `spearman`, `mean_inner_product` or `kl`.
    pub check: &'static str,
    /// The objective it is about, where it is about one.
    pub objective: Option<String>,
    /// What was measured.
    pub measured: Option<f64>,
    /// The bound it was held against.
    pub bound: Option<f64>,
    /// Whether it lets the checkpoint through.
    pub passed: bool,
    /// The finding as a sentence.
    pub says: String,
}

/// What the gate knows of both sides.
pub(super) struct Sides<'a> {
    /// The checkpoint.
    pub(super) candidate: &'a SteeringManifest,
    /// The live policy, where there is one that is steerable.
    pub(super) live: Option<&'a SteeringManifest>,
    /// A measurement made just now of both, in the form of a manifest's `evaluation`, with
    /// `live_mean_inner_product` on the same prompts.
    pub(super) fresh: Option<&'a Value>,
}

/// Everything the gate finds, passed or not.
pub(super) fn findings(sides: &Sides<'_>, settings: &GateSettings) -> Vec<GateFinding> {
    let mut found = Vec::new();
    if let Some(live) = sides.live
        && live.objectives.names() != sides.candidate.objectives.names()
    {
        let says = format!(
            "it has the objectives {}, the live policy {}; another set is another policy, under \
             another id",
            sides.candidate.objectives.names(),
            live.objectives.names()
        );
        found.push(finding("objectives", false, says));
    }
    found.extend(spearmans(sides, settings));
    found.push(score(sides, settings));
    found.extend(settings.max_kl.map(|cap| kl(sides, cap)));
    found
}

fn finding(check: &'static str, passed: bool, says: String) -> GateFinding {
    GateFinding {
        check,
        objective: None,
        measured: None,
        bound: None,
        passed,
        says,
    }
}

fn spearmans(sides: &Sides<'_>, settings: &GateSettings) -> Vec<GateFinding> {
    let evaluation = sides.fresh.unwrap_or(&sides.candidate.evaluation);
    let floor = settings.min_spearman;
    let each = sides.candidate.objectives.iter().map(|objective| {
        let name = &objective.name;
        let measured = evaluation["objectives"][name.as_str()]["spearman"].as_f64();
        let found = match measured {
            Some(value) => format!("spearman of `{name}` is {value:.3}"),
            None => format!("spearman of `{name}` was not measured"),
        };
        let (passed, expected) = match floor {
            Some(floor) => (
                measured.is_some_and(|value| value >= floor),
                format!("expected at least {floor}"),
            ),
            None => (true, "and is held against nothing".to_owned()),
        };
        let says = format!("{found}, {expected}");
        GateFinding {
            objective: Some(name.clone()),
            measured,
            bound: floor,
            ..finding("spearman", passed, says)
        }
    });
    each.collect()
}

fn score(sides: &Sides<'_>, settings: &GateSettings) -> GateFinding {
    const CHECK: &str = "mean_inner_product";
    let (Some(live), GateBaseline::Live) = (sides.live, settings.baseline) else {
        let says = "mean inner product is held against nothing".to_owned();
        return finding(CHECK, true, says);
    };
    let (own, other) = match sides.fresh {
        Some(fresh) => (
            fresh[CHECK].as_f64(),
            fresh["live_mean_inner_product"].as_f64(),
        ),
        None => {
            if let Some(why) = incomparable(sides.candidate, live) {
                let says = format!(
                    "mean inner products cannot be compared: {why}; ask for a fresh evaluation"
                );
                return finding(CHECK, false, says);
            }
            let recorded = |manifest: &SteeringManifest| manifest.evaluation[CHECK].as_f64();
            (recorded(sides.candidate), recorded(live))
        }
    };
    let (Some(own), Some(other)) = (own, other) else {
        let says = "mean inner product was not measured of both; ask for a fresh evaluation";
        return finding(CHECK, false, says.to_owned());
    };
    let bound = other - settings.max_score_loss;
    let says = format!("mean inner product is {own:.4}, expected at least {bound:.4}");
    GateFinding {
        measured: Some(own),
        bound: Some(bound),
        ..finding(CHECK, own >= bound, says)
    }
}

/// Why two recorded scores do not lie on one scale.
fn incomparable(candidate: &SteeringManifest, live: &SteeringManifest) -> Option<&'static str> {
    if candidate.normalizers != live.normalizers {
        return Some("their rewards are normalised differently");
    }
    let differ = |field: &str| candidate.evaluation[field] != live.evaluation[field];
    if differ("prompts") || differ("points") {
        return Some("they were measured on other prompts or weights");
    }
    None
}

fn kl(sides: &Sides<'_>, cap: f64) -> GateFinding {
    let candidate = sides.candidate;
    let recorded = [&candidate.evaluation["kl"], &candidate.training["kl"]];
    let measured = recorded.into_iter().find_map(Value::as_f64);
    let passed = measured.is_some_and(|kl| kl <= cap);
    let says = match measured {
        Some(kl) => {
            format!("KL to the reference is {kl:.3} nats a sequence, expected at most {cap}")
        }
        None => format!("KL to the reference was not measured, expected at most {cap}"),
    };
    GateFinding {
        measured,
        bound: Some(cap),
        ..finding("kl", passed, says)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(evaluation: Value, mean: f32) -> SteeringManifest {
        let normalizer = json!({"mean": mean, "std": 1.0, "clip": 3.0});
        serde_json::from_value(json!({
            "format_version": 1,
            "name": "p",
            "objectives": [{"name": "a", "description": ""}, {"name": "b", "description": ""}],
            "conditioning": {
                "kind": "weights_text", "open": "<o>", "close": "<c>", "template": "{a} {b}",
                "decimals": 1,
            },
            "normalizers": [normalizer, normalizer],
            "evaluation": evaluation,
        }))
        .expect("sound")
    }

    fn measured(a: f64, b: f64, score: f64) -> Value {
        json!({
            "prompts": 10, "points": 3, "mean_inner_product": score, "kl": 2.0,
            "objectives": {"a": {"spearman": a}, "b": {"spearman": b}},
        })
    }

    /// The checks that fail.
    fn failed(
        candidate: &SteeringManifest,
        live: Option<&SteeringManifest>,
        settings: GateSettings,
    ) -> Vec<&'static str> {
        let sides = Sides {
            candidate,
            live,
            fresh: None,
        };
        let found = findings(&sides, &settings).into_iter();
        found.filter(|f| !f.passed).map(|f| f.check).collect()
    }

    #[test]
    fn each_objective_has_the_floor_and_the_score_may_not_fall() {
        let live = manifest(measured(0.9, 0.9, 0.2), 0.0);
        let check = |a, b, score, expected: &[&str]| {
            let candidate = manifest(measured(a, b, score), 0.0);
            let found = failed(&candidate, Some(&live), GateSettings::default());
            assert_eq!(found, expected, "{a} {b} {score}");
        };
        check(0.8, 1.0, 0.2, &[]);
        check(0.79, 1.0, 0.3, &["spearman"]);
        check(0.5, -1.0, 0.3, &["spearman", "spearman"]);
        check(0.9, 0.9, 0.19, &["mean_inner_product"]);
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        let none = manifest(Value::Null, 0.0);
        assert_eq!(
            failed(&none, None, GateSettings::default()),
            ["spearman", "spearman"]
        );
        let sound = manifest(measured(1.0, 1.0, 0.2), 0.0);
        let against = failed(&sound, Some(&none), GateSettings::default());
        assert_eq!(against, ["mean_inner_product"]);
    }

    #[test]
    fn a_gate_without_a_floor_lets_the_unmeasured_through() {
        let open = GateSettings {
            min_spearman: None,
            ..GateSettings::default()
        };
        for evaluation in [Value::Null, measured(-1.0, -1.0, 0.2)] {
            assert!(failed(&manifest(evaluation, 0.0), None, open).is_empty());
        }
    }

    #[test]
    fn scores_on_other_scales_are_not_compared() {
        let live = manifest(measured(1.0, 1.0, 0.2), 0.5);
        let candidate = manifest(measured(1.0, 1.0, 0.9), 0.0);
        let settings = GateSettings::default();
        assert_eq!(
            failed(&candidate, Some(&live), settings),
            ["mean_inner_product"]
        );
        let decided = GateSettings {
            baseline: GateBaseline::Nothing,
            ..settings
        };
        assert!(failed(&candidate, Some(&live), decided).is_empty());
    }

    #[test]
    fn a_kl_cap_holds_where_one_is_set() {
        let candidate = manifest(measured(1.0, 1.0, 0.2), 0.0);
        let capped = |cap| GateSettings {
            max_kl: Some(cap),
            ..GateSettings::default()
        };
        assert!(failed(&candidate, None, capped(2.0)).is_empty());
        assert_eq!(failed(&candidate, None, capped(1.9)), ["kl"]);
    }

    #[test]
    fn a_fresh_measurement_stands_for_the_recorded_one() {
        let (candidate, live) = (manifest(Value::Null, 0.0), manifest(Value::Null, 0.0));
        let mut fresh = measured(1.0, 1.0, 0.3);
        fresh["live_mean_inner_product"] = json!(0.25);
        let sides = Sides {
            candidate: &candidate,
            live: Some(&live),
            fresh: Some(&fresh),
        };
        let found = findings(&sides, &GateSettings::default());
        assert!(found.iter().all(|f| f.passed), "{found:?}");
    }
}

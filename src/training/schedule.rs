//! The learning rate of each step: a linear warm-up, then cosine, line or constant.

use super::config::{OptimizerSettings, ScheduleKind};

/// What the highest learning rate is multiplied by after `step` of `total` steps.
pub fn factor(kind: ScheduleKind, step: u64, warmup_steps: u64, total: u64) -> f64 {
    if step < warmup_steps {
        return step as f64 / warmup_steps.max(1) as f64;
    }
    let rest = total.saturating_sub(warmup_steps).max(1) as f64;
    let done = ((step - warmup_steps) as f64 / rest).min(1.0);
    match kind {
        ScheduleKind::Constant => 1.0,
        ScheduleKind::Linear => 1.0 - done,
        ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
    }
}

/// The learning rate of the update that follows `step` finished steps, of `total`.
///
/// The first update is already one step up the warm-up, so that it is not made with a rate of 0.
pub fn learning_rate(settings: &OptimizerSettings, step: u64, total: u64) -> f64 {
    let warmup_steps = (settings.warmup * total as f64).round() as u64;
    let place = if step < warmup_steps { step + 1 } else { step };
    settings.learning_rate * factor(settings.schedule, place, warmup_steps, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_the_golden_ones() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/preference_math/optim.json"
        );
        let file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let case = &file["schedules"];
        let (warmup, total) = (
            case["warmup"].as_u64().unwrap(),
            case["total"].as_u64().unwrap(),
        );
        for (name, kind, warmup) in [
            ("linear", ScheduleKind::Linear, warmup),
            ("cosine", ScheduleKind::Cosine, warmup),
            ("constant_with_warmup", ScheduleKind::Constant, warmup),
            ("constant", ScheduleKind::Constant, 0),
        ] {
            for (step, expected) in case["factor_at_step"][name]
                .as_array()
                .unwrap()
                .iter()
                .enumerate()
                .take(21)
            {
                let actual = factor(kind, step as u64, warmup, total);
                let expected = expected.as_f64().unwrap();
                assert!(
                    (actual - expected).abs() < 1e-9,
                    "{name} {step}: {actual} {expected}"
                );
            }
        }
    }

    #[test]
    fn no_update_is_made_with_a_rate_of_0() {
        let settings = OptimizerSettings::with_learning_rate(1.0);
        for total in [1, 2, 10, 100] {
            for step in 0..total {
                assert!(
                    learning_rate(&settings, step, total) > 0.0,
                    "step {step} of {total}"
                );
            }
        }
        assert_eq!(learning_rate(&settings, 9, 100), 1.0);
        assert_eq!(learning_rate(&settings, 10, 100), 1.0);
    }
}

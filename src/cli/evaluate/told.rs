//! What is told of an evaluation beside its report: to the manifest, and on standard error.

use std::path::Path;

use crate::eval::report::EvalReport;

/// What the manifest keeps of a report.
pub(super) fn summary(report: &EvalReport) -> serde_json::Value {
    let own = report
        .responses
        .iter()
        .filter(|r| r.objective == r.measured);
    let objectives: serde_json::Map<String, serde_json::Value> = own
        .map(|r| {
            let response = serde_json::json!({
                "spearman": r.response.spearman,
                "kendall": r.response.kendall,
                "monotone_violations": r.response.monotone_violations,
                "range": r.response.range,
            });
            (r.objective.clone(), response)
        })
        .collect();
    serde_json::json!({
        "prompts": report.prompts,
        "points": report.points.len(),
        "objectives": objectives,
        "mean_inner_product": report.reached.mean_inner_product,
        "baseline_mean_inner_product": report.baseline_reached.as_ref().map(|b| b.mean_inner_product),
        "hypervolume": report.reached.hypervolume,
        "reference_point": report.reference_point,
        "points_above_baseline": report.points_above_baseline,
    })
}

/// Says on standard error what came out.
pub(super) fn tell(report: &EvalReport, out: &Path) {
    for row in &report.responses {
        let spearman = row
            .response
            .spearman
            .map_or("-".to_owned(), |x| format!("{x:.3}"));
        eprintln!(
            "{} against the weight of {}: spearman {spearman}",
            row.measured, row.objective
        );
    }
    for row in &report.refusal_responses {
        eprintln!(
            "refusals as the weight of {} grows: {:+.1} points on unsafe prompts, {:+.1} on safe \
             look-alikes",
            row.objective,
            100.0 * row.on_unsafe.range,
            100.0 * row.on_safe.range
        );
    }
    let reached = report.reached.mean_inner_product;
    let against = report
        .baseline_reached
        .as_ref()
        .map_or_else(String::new, |b| {
            format!(" (baseline {:.3})", b.mean_inner_product)
        });
    eprintln!(
        "mean inner product {reached:.3}{against}; wrote {}",
        out.display()
    );
}

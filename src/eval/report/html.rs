//! The report as one HTML page that needs nothing beside it.

use std::fmt::Write;

use super::super::stats::Estimate;
use super::chart::number;
use super::drawing::{Drawing, escape};
use super::{EvalReport, PointReport};

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid #8884; }
td { white-space: nowrap; }
td .note { display: block; font-size: .75em; }
th:first-child, td:first-child { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
.plots svg { width: 100%; background: #fff; border: 1px solid #8884; border-radius: 6px; }
.note { color: #777; }
blockquote { margin: .3rem 0 .3rem 1rem; white-space: pre-wrap; }
";

/// The whole page.
pub(super) fn page(report: &EvalReport, plots: &[(String, Drawing)]) -> String {
    let mut out = String::new();
    let title = format!("Steerability of {}", escape(&report.policy));
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
    );
    summary(report, &mut out);
    out.push_str("<div class=\"plots\">");
    for (_, drawing) in plots {
        out.push_str(&drawing.svg());
    }
    out.push_str("</div>");
    responses(report, &mut out);
    points(report, &mut out);
    refusals(report, &mut out);
    samples(report, &mut out);
    out.push_str("</body></html>\n");
    out
}

fn summary(report: &EvalReport, out: &mut String) {
    let against = report.baseline.as_ref().map_or_else(String::new, |name| {
        format!(
            " Compared with <b>{}</b> at each weight vector: the mean score is higher at {} of {}.",
            escape(name),
            report.points_above_baseline,
            report.points.len()
        )
    });
    let reference: Vec<String> = report
        .reference_point
        .iter()
        .map(|x| format!("{x:.2}"))
        .collect();
    let sampling = &report.sampling;
    let _ = write!(
        out,
        "<p>{} prompts at each of {} weight vectors; temperature {}, top-p {}, at most {} tokens, \
         seed {}.{against}</p><table><tr><th></th><th>mean inner product</th><th>hypervolume</th>\
         <th>points on the front</th></tr>",
        report.prompts,
        report.points.len(),
        sampling.temperature,
        sampling.top_p,
        sampling.max_tokens,
        sampling.seed
    );
    let mut row = |name: &str, reached: &super::FrontReport| {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{:.3}</td><td>{:.3}</td><td>{}</td></tr>",
            escape(name),
            reached.mean_inner_product,
            reached.hypervolume,
            reached.front.len()
        );
    };
    row(&report.policy, &report.reached);
    if let (Some(name), Some(reached)) = (&report.baseline, &report.baseline_reached) {
        row(name, reached);
    }
    let _ = write!(
        out,
        "</table><p class=\"note\">In normalised rewards; both hypervolumes are above the reference \
         point ({}), a tenth of a deviation below the worst mean of either.</p>",
        reference.join(", ")
    );
}

fn responses(report: &EvalReport, out: &mut String) {
    out.push_str(
        "<h2>Answers to the weights</h2><table><tr><th>measured</th><th>against the weight of</th>\
         <th>Spearman</th><th>Kendall</th><th>Spearman, single answers</th><th>falls</th>\
         <th>range</th><th>range / deviation</th><th>baseline Spearman</th></tr>",
    );
    let maybe = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.2}"));
    for row in &report.responses {
        let response = &row.response;
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.0} %</td>\
             <td>{}</td><td>{:.2}</td><td>{}</td></tr>",
            escape(&row.measured),
            escape(&row.objective),
            maybe(response.spearman),
            maybe(response.kendall),
            maybe(response.spearman_answers),
            100.0 * response.monotone_violations,
            number(response.range),
            response.range_over_deviation,
            maybe(row.baseline.as_ref().and_then(|b| b.spearman)),
        );
    }
    out.push_str("</table>");
}

fn points(report: &EvalReport, out: &mut String) {
    let _ = write!(
        out,
        "<h2>Point by point</h2><table><tr><th>weights: {}</th>",
        escape(&report.objectives.join(" / "))
    );
    for name in report.objectives.iter().chain(&report.judges) {
        let _ = write!(out, "<th>{}</th>", escape(name));
    }
    out.push_str(
        "<th>score</th><th>gain</th><th>words</th><th>distinct-2</th><th>repetition</th>\
         <th>empty</th><th>duplicates</th><th>ended</th></tr>",
    );
    for point in &report.points {
        point_row(point, out);
    }
    out.push_str("</table>");
}

fn point_row(point: &PointReport, out: &mut String) {
    let _ = write!(out, "<tr><td>{}</td>", point.told());
    for value in point.rewards.iter().chain(&point.judges) {
        let _ = write!(out, "<td>{}</td>", estimate(*value));
    }
    let gain = point.gain.map_or_else(|| "-".to_owned(), estimate);
    let _ = write!(out, "<td>{:.3}</td><td>{gain}</td>", point.score);
    match &point.text {
        Some(text) => {
            let _ = write!(
                out,
                "<td>{:.1}</td><td>{:.2}</td><td>{:.2}</td><td>{:.1} %</td><td>{:.1} %</td>\
                 <td>{:.1} %</td></tr>",
                text.words,
                text.distinct_2,
                text.repetition,
                100.0 * text.empty,
                100.0 * text.duplicate,
                100.0 * text.finished
            );
        }
        None => out.push_str("<td colspan=\"6\">-</td></tr>"),
    }
}

fn refusals(report: &EvalReport, out: &mut String) {
    if report.refusals.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Refusals</h2><table><tr><th>weights</th><th>unsafe prompts refused</th>\
         <th>safe look-alikes refused</th></tr>",
    );
    for point in &report.refusals {
        let weights: Vec<String> = point.weights.iter().map(|w| number(*w)).collect();
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            weights.join(" / "),
            estimate(point.on_unsafe),
            estimate(point.on_safe)
        );
    }
    out.push_str(
        "</table><table><tr><th>refusals against the weight of</th><th>Spearman, unsafe</th>\
         <th>range, unsafe</th><th>Spearman, safe</th><th>range, safe</th></tr>",
    );
    let maybe = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.2}"));
    for row in &report.refusal_responses {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{:.3}</td><td>{}</td><td>{:.3}</td></tr>",
            escape(&row.objective),
            maybe(row.on_unsafe.spearman),
            row.on_unsafe.range,
            maybe(row.on_safe.spearman),
            row.on_safe.range
        );
    }
    out.push_str("</table>");
}

fn samples(report: &EvalReport, out: &mut String) {
    if report.samples.is_empty() {
        return;
    }
    out.push_str("<h2>Some answers</h2>");
    for sample in &report.samples {
        let _ = write!(out, "<h3>{}</h3>", escape(&sample.question));
        for (point, answer) in report.points.iter().zip(&sample.answers) {
            let _ = write!(
                out,
                "<p class=\"note\">{}</p><blockquote>{}</blockquote>",
                escape(&named_weights(report, point)),
                escape(answer)
            );
        }
    }
}

/// Each weight with its objective's name.
fn named_weights(report: &EvalReport, point: &PointReport) -> String {
    let named = report.objectives.iter().zip(&point.weights);
    let told = named.map(|(name, weight)| format!("{name} {}", number(*weight)));
    told.collect::<Vec<_>>().join(", ")
}

fn estimate(value: Estimate) -> String {
    format!(
        "{:.3} <span class=\"note\">({:.3} to {:.3})</span>",
        value.value, value.low, value.high
    )
}

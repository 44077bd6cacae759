//! Which plots a report has, and what each shows.

use super::super::stats::Estimate;
use super::super::steerability::by_weight;
use super::chart::{Chart, Dot, Series};
use super::drawing::Drawing;
use super::{EvalReport, PointReport};

/// Colours that stay apart for colour-blind readers (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// All plots of a report, with the names of their files.
pub(super) fn plots(report: &EvalReport) -> Vec<(String, Drawing)> {
    let mut plots = Vec::new();
    for (k, objective) in report.objectives.iter().enumerate() {
        let name = format!("reward_{}", file_name(objective));
        plots.push((name, reward_plot(report, k)));
    }
    if report.objectives.len() >= 2 {
        plots.push(("front".to_owned(), front_plot(report)));
    }
    plots.push(("length".to_owned(), length_plot(report)));
    for (j, judge) in report.judges.iter().enumerate() {
        plots.push((format!("judge_{}", file_name(judge)), judge_plot(report, j)));
    }
    if !report.refusals.is_empty() {
        plots.push(("refusals".to_owned(), refusal_plot(report)));
    }
    let drawn = plots.into_iter().map(|(name, plot)| (name, plot.draw()));
    drawn.collect()
}

fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

fn weights_of(points: &[PointReport], k: usize) -> Vec<f64> {
    points.iter().map(|point| point.weights[k]).collect()
}

/// A line over the weight of objective `k`: means over the points that share a weight.
fn line(points: &[PointReport], k: usize, value: impl Fn(&PointReport) -> Estimate) -> Vec<Dot> {
    let values: Vec<Estimate> = points.iter().map(value).collect();
    dots_by_weight(&weights_of(points, k), &values)
}

/// Means of the values that share a weight, and of the ends of their intervals.
fn dots_by_weight(weights: &[f64], values: &[Estimate]) -> Vec<Dot> {
    let column = |pick: fn(&Estimate) -> f64| {
        by_weight(weights, &values.iter().map(pick).collect::<Vec<_>>())
    };
    let (middle, low, high) = (column(|e| e.value), column(|e| e.low), column(|e| e.high));
    let bands = low.into_iter().zip(high);
    middle
        .into_iter()
        .zip(bands)
        .map(|((x, y), (l, h))| (x, y, Some((l.1, h.1))))
        .collect()
}

fn both(
    report: &EvalReport,
    k: usize,
    value: impl Fn(&PointReport) -> Estimate + Copy,
) -> Vec<Series> {
    let mut series = vec![Series {
        name: report.policy.clone(),
        points: line(&report.points, k, value),
        names: Vec::new(),
        colour: COLOURS[0],
        dashed: false,
    }];
    if let Some(name) = &report.baseline {
        series.push(Series {
            name: name.clone(),
            points: line(&report.baseline_points, k, value),
            names: Vec::new(),
            colour: COLOURS[1],
            dashed: true,
        });
    }
    series
}

fn reward_plot(report: &EvalReport, k: usize) -> Chart {
    let name = &report.objectives[k];
    Chart {
        title: format!("Reward of {name} along its weight"),
        x_label: format!("weight of {name}"),
        y_label: "mean reward, 95 % interval".into(),
        series: both(report, k, |point| point.rewards[k]),
    }
}

fn judge_plot(report: &EvalReport, j: usize) -> Chart {
    Chart {
        title: format!("Outside judge: {}", report.judges[j]),
        x_label: format!("weight of {}", report.objectives[0]),
        y_label: "mean, 95 % interval".into(),
        series: both(report, 0, |point| point.judges[j]),
    }
}

fn length_plot(report: &EvalReport) -> Chart {
    let words = |point: &PointReport| {
        let value = point.text.map_or(0.0, |text| text.words);
        Estimate {
            value,
            low: value,
            high: value,
        }
    };
    Chart {
        title: "Length of answers".into(),
        x_label: format!("weight of {}", report.objectives[0]),
        y_label: "mean words".into(),
        series: both(report, 0, words),
    }
}

fn front_plot(report: &EvalReport) -> Chart {
    let dots = |points: &[PointReport]| {
        points
            .iter()
            .map(|point| (point.normalized[0], point.normalized[1], None))
            .collect()
    };
    let names = |points: &[PointReport]| points.iter().map(PointReport::told).collect();
    let mut series = vec![Series {
        name: report.policy.clone(),
        points: dots(&report.points),
        names: names(&report.points),
        colour: COLOURS[0],
        dashed: false,
    }];
    if let Some(name) = &report.baseline {
        series.push(Series {
            name: name.clone(),
            points: dots(&report.baseline_points),
            names: names(&report.baseline_points),
            colour: COLOURS[1],
            dashed: true,
        });
    }
    Chart {
        title: format!("Trade-off by weights ({})", report.objectives.join(" / ")),
        x_label: format!("{}, normalised mean reward", report.objectives[0]),
        y_label: format!("{}, normalised mean reward", report.objectives[1]),
        series,
    }
}

fn refusal_plot(report: &EvalReport) -> Chart {
    // The refusals answer to the last objective where the first is "be helpful".
    let k = report.objectives.len() - 1;
    let points = &report.refusals;
    let weights: Vec<f64> = points.iter().map(|point| point.weights[k]).collect();
    let rate = |pick: fn(&super::RefusalPoint) -> Estimate| {
        let rates: Vec<Estimate> = points.iter().map(pick).collect();
        dots_by_weight(&weights, &rates)
    };
    let series = |name: &str, points, colour, dashed| Series {
        name: name.to_owned(),
        points,
        names: Vec::new(),
        colour,
        dashed,
    };
    Chart {
        title: "Refusals".into(),
        x_label: format!("weight of {}", report.objectives[k]),
        y_label: "share refused, 95 % interval".into(),
        series: vec![
            series("unsafe prompts", rate(|p| p.on_unsafe), COLOURS[1], false),
            series("safe look-alikes", rate(|p| p.on_safe), COLOURS[2], true),
        ],
    }
}

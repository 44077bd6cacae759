//! Plots as SVG text: axes, lines with interval bands, labelled points. No script, no font file.

use std::fmt::Write;

use super::super::stats::Estimate;
use super::super::steerability::by_weight;
use super::{EvalReport, PointReport};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;

/// Colours that stay apart for colour-blind readers (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// x, y and the interval of y.
type Dot = (f64, f64, Option<(f64, f64)>);

/// One line of a plot.
struct Series {
    name: String,
    points: Vec<Dot>,
    colour: &'static str,
    dashed: bool,
}

struct Plot {
    title: String,
    x_label: String,
    y_label: String,
    series: Vec<Series>,
}

/// All plots of a report: file name and SVG.
pub(super) fn plots(report: &EvalReport) -> Vec<(String, String)> {
    let mut plots = Vec::new();
    for (k, objective) in report.objectives.iter().enumerate() {
        plots.push((format!("reward_{objective}"), reward_plot(report, k).svg()));
    }
    if report.objectives.len() >= 2 {
        plots.push(("front".to_owned(), front_plot(report).svg()));
    }
    plots.push(("length".to_owned(), length_plot(report).svg()));
    for (j, judge) in report.judges.iter().enumerate() {
        plots.push((
            format!("judge_{}", file_name(judge)),
            judge_plot(report, j).svg(),
        ));
    }
    if !report.refusals.is_empty() {
        plots.push(("refusals".to_owned(), refusal_plot(report).svg()));
    }
    plots
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
    let weights = weights_of(points, k);
    let column = |pick: fn(Estimate) -> f64| -> Vec<f64> {
        points.iter().map(|point| pick(value(point))).collect()
    };
    let middle = by_weight(&weights, &column(|e| e.value));
    let low = by_weight(&weights, &column(|e| e.low));
    let high = by_weight(&weights, &column(|e| e.high));
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
        colour: COLOURS[0],
        dashed: false,
    }];
    if let Some(name) = &report.baseline {
        series.push(Series {
            name: name.clone(),
            points: line(&report.baseline_points, k, value),
            colour: COLOURS[1],
            dashed: true,
        });
    }
    series
}

fn reward_plot(report: &EvalReport, k: usize) -> Plot {
    let name = &report.objectives[k];
    Plot {
        title: format!("Reward of {name} along its weight"),
        x_label: format!("weight of {name}"),
        y_label: "mean reward, 95 % interval".into(),
        series: both(report, k, |point| point.rewards[k]),
    }
}

fn judge_plot(report: &EvalReport, j: usize) -> Plot {
    Plot {
        title: format!("Outside judge: {}", report.judges[j]),
        x_label: format!("weight of {}", report.objectives[0]),
        y_label: "mean, 95 % interval".into(),
        series: both(report, 0, |point| point.judges[j]),
    }
}

fn length_plot(report: &EvalReport) -> Plot {
    let words = |point: &PointReport| {
        let value = point.text.map_or(0.0, |text| text.words);
        Estimate {
            value,
            low: value,
            high: value,
        }
    };
    Plot {
        title: "Length of answers".into(),
        x_label: format!("weight of {}", report.objectives[0]),
        y_label: "mean words".into(),
        series: both(report, 0, words),
    }
}

fn front_plot(report: &EvalReport) -> Plot {
    let dots = |points: &[PointReport]| {
        points
            .iter()
            .map(|point| (point.normalized[0], point.normalized[1], None))
            .collect()
    };
    let mut series = vec![Series {
        name: report.policy.clone(),
        points: dots(&report.points),
        colour: COLOURS[0],
        dashed: false,
    }];
    if let Some(name) = &report.baseline {
        series.push(Series {
            name: name.clone(),
            points: dots(&report.baseline_points),
            colour: COLOURS[1],
            dashed: true,
        });
    }
    Plot {
        title: "Trade-off, point by point along the grid".into(),
        x_label: format!("{}, normalised mean reward", report.objectives[0]),
        y_label: report.objectives[1].clone(),
        series,
    }
}

fn refusal_plot(report: &EvalReport) -> Plot {
    // The refusals answer to the last objective where the first is "be helpful".
    let k = report.objectives.len() - 1;
    let rate = |pick: fn(&super::RefusalPoint) -> Estimate| {
        let weights: Vec<f64> = report
            .refusals
            .iter()
            .map(|point| point.weights[k])
            .collect();
        let column = |part: fn(Estimate) -> f64| -> Vec<f64> {
            report
                .refusals
                .iter()
                .map(|point| part(pick(point)))
                .collect()
        };
        let middle = by_weight(&weights, &column(|e| e.value));
        let low = by_weight(&weights, &column(|e| e.low));
        let high = by_weight(&weights, &column(|e| e.high));
        let bands = low.into_iter().zip(high);
        middle
            .into_iter()
            .zip(bands)
            .map(|((x, y), (l, h))| (x, y, Some((l.1, h.1))))
            .collect()
    };
    let series = |name: &str, points, colour, dashed| Series {
        name: name.to_owned(),
        points,
        colour,
        dashed,
    };
    Plot {
        title: "Refusals".into(),
        x_label: format!("weight of {}", report.objectives[k]),
        y_label: "share refused, 95 % interval".into(),
        series: vec![
            series("unsafe prompts", rate(|p| p.on_unsafe), COLOURS[1], false),
            series("safe look-alikes", rate(|p| p.on_safe), COLOURS[2], true),
        ],
    }
}

/// Where numbers lie on the drawing.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn around(series: &[Series]) -> Self {
        let points = || series.iter().flat_map(|s| &s.points);
        let xs = points().map(|(x, ..)| *x);
        let ys = points().flat_map(|(_, y, band)| {
            let (low, high) = band.unwrap_or((*y, *y));
            [*y, low, high]
        });
        Self {
            x: padded(xs, 0.02),
            y: padded(ys, 0.06),
        }
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (
            LEFT + share(x, self.x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - share(y, self.y) * (HEIGHT - TOP - BOTTOM),
        )
    }
}

/// Least and greatest value with a margin; never an empty range.
fn padded(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
    if low > high {
        return (0.0, 1.0);
    }
    let span = if high > low {
        high - low
    } else {
        high.abs().max(1.0)
    };
    (low - margin * span, high + margin * span)
}

/// Round numbers inside a range, about five of them.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let scale = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * scale)
        .into_iter()
        .find(|s| *s >= rough);
    let step = step.unwrap_or(10.0 * scale);
    let mut ticks = Vec::new();
    let mut tick = (low / step).ceil() * step;
    while tick <= high && ticks.len() < 12 {
        ticks.push(tick);
        tick += step;
    }
    ticks
}

impl Plot {
    fn svg(&self) -> String {
        let frame = Frame::around(&self.series);
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"11\" \
             fill=\"currentColor\" color=\"#444\"><title>{0}</title>\
             <text x=\"{LEFT}\" y=\"16\" font-size=\"13\" font-weight=\"600\">{0}</text>",
            escape(&self.title)
        );
        self.axes(&frame, &mut out);
        for (index, series) in self.series.iter().enumerate() {
            series.draw(&frame, &mut out);
            let (x, y) = (LEFT + 150.0 * index as f64, 29.0);
            let _ = write!(
                out,
                "<text x=\"{x}\" y=\"{y}\" fill=\"{}\">{} {}</text>",
                series.colour,
                if series.dashed { "- -" } else { "\u{2014}" },
                escape(&series.name)
            );
        }
        out.push_str("</svg>");
        out
    }

    fn axes(&self, frame: &Frame, out: &mut String) {
        for tick in ticks(frame.y) {
            let (_, y) = frame.place(0.0, tick);
            let _ = write!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#8884\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(tick)
            );
        }
        for tick in ticks(frame.x) {
            let (x, _) = frame.place(tick, 0.0);
            let _ = write!(
                out,
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM + 16.0,
                number(tick)
            );
        }
        let middle = TOP + (HEIGHT - TOP - BOTTOM) / 2.0;
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(13 {middle:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
            HEIGHT - 8.0,
            escape(&self.x_label),
            escape(&self.y_label)
        );
    }
}

impl Series {
    fn draw(&self, frame: &Frame, out: &mut String) {
        let corner = |x: f64, y: f64| {
            let (x, y) = frame.place(x, y);
            format!("{x:.1},{y:.1}")
        };
        let upper = self
            .points
            .iter()
            .filter_map(|(x, _, band)| band.map(|b| corner(*x, b.1)));
        let lower = self.points.iter().rev();
        let lower = lower.filter_map(|(x, _, band)| band.map(|b| corner(*x, b.0)));
        let outline: Vec<String> = upper.chain(lower).collect();
        let path: Vec<String> = self.points.iter().map(|(x, y, _)| corner(*x, *y)).collect();
        let colour = self.colour;
        if !outline.is_empty() {
            let outline = outline.join(" ");
            let _ = write!(
                out,
                "<polygon points=\"{outline}\" fill=\"{colour}\" opacity=\"0.15\"/>"
            );
        }
        let dash = if self.dashed {
            " stroke-dasharray=\"5 4\""
        } else {
            ""
        };
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{dash}/>",
            path.join(" ")
        );
        for (x, y, _) in &self.points {
            let (x, y) = frame.place(*x, *y);
            let _ = write!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{colour}\"/>"
            );
        }
    }
}

/// A number short enough for an axis.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let trimmed = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    if trimmed == "-0" {
        "0".to_owned()
    } else {
        trimmed.to_owned()
    }
}

/// Text that is safe inside XML and HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            ticks((0.0, 1.0)),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(ticks((-3.0, 12.0)), [0.0, 5.0, 10.0]);
    }

    #[test]
    fn a_flat_line_still_has_a_range() {
        let (low, high) = padded([2.0, 2.0].into_iter(), 0.1);
        assert!(low < 2.0 && high > 2.0);
        assert_eq!(padded(std::iter::empty(), 0.1), (0.0, 1.0));
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, -0.001, 0.25, 12.5, 1234.5].map(number);
        assert_eq!(texts, ["0", "0", "0.25", "12.5", "1234"]);
    }
}

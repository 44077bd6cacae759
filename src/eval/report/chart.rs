//! A chart as a drawing: axes with round numbers, lines with interval bands, a legend.

use super::drawing::{Anchor, Drawing, Ink, Label, Point, Shape, text_width};
use super::point_names::point_names;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 44.0;

/// Sizes of text.
const TITLE: f64 = 13.0;
const SMALL: f64 = 10.5;

/// x, y and the interval of y.
pub(super) type Dot = (f64, f64, Option<(f64, f64)>);

/// One line of a chart.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<Dot>,
    /// Parallel to `points`, what each is, where the axes do not say it; else empty.
    pub(super) names: Vec<String>,
    pub(super) colour: &'static str,
    pub(super) dashed: bool,
}

/// Lines over a pair of axes.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) y_label: String,
    pub(super) series: Vec<Series>,
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
    // a little below a fifth, so that 0 to 1 with its margins is cut at 0.2
    let rough = 0.9 * (high - low) / 5.0;
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

impl Chart {
    pub(super) fn draw(&self) -> Drawing {
        let frame = Frame::around(&self.series);
        let mut shapes = Vec::new();
        shapes.push(Shape::Label(Label {
            bold: true,
            ..label(&self.title, TITLE, (LEFT, 17.0), Anchor::Start)
        }));
        self.axes(&frame, &mut shapes);
        self.legend(&mut shapes);
        for series in &self.series {
            series.draw(&frame, &mut shapes);
        }
        // above all lines; the first line's only, as both are asked at the same weights
        if let Some(first) = self.series.first() {
            let places = first.points.iter().map(|(x, y, _)| frame.place(*x, *y));
            let named: Vec<_> = places.zip(first.names.iter().map(String::as_str)).collect();
            let ink = Ink::Colour(first.colour);
            shapes.extend(point_names(&named, WIDTH - RIGHT, ink));
        }
        Drawing {
            title: self.title.clone(),
            width: WIDTH,
            height: HEIGHT,
            shapes,
        }
    }

    fn axes(&self, frame: &Frame, shapes: &mut Vec<Shape>) {
        for tick in ticks(frame.y) {
            let (_, y) = frame.place(0.0, tick);
            shapes.push(Shape::Line {
                points: vec![(LEFT, y), (WIDTH - RIGHT, y)],
                ink: Ink::Grid,
                width: 1.0,
                dashed: false,
            });
            let at = (LEFT - 7.0, y + 3.7);
            shapes.push(Shape::Label(label(&number(tick), SMALL, at, Anchor::End)));
        }
        for tick in ticks(frame.x) {
            let (x, _) = frame.place(tick, 0.0);
            let at = (x, HEIGHT - BOTTOM + 16.0);
            shapes.push(Shape::Label(label(
                &number(tick),
                SMALL,
                at,
                Anchor::Middle,
            )));
        }
        let below = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 9.0);
        let beside = (15.0, TOP + (HEIGHT - TOP - BOTTOM) / 2.0);
        shapes.push(Shape::Label(label(
            &self.x_label,
            SMALL,
            below,
            Anchor::Middle,
        )));
        shapes.push(Shape::Label(Label {
            turned: true,
            ..label(&self.y_label, SMALL, beside, Anchor::Middle)
        }));
    }

    /// A sample of each line, and its name.
    fn legend(&self, shapes: &mut Vec<Shape>) {
        const SAMPLE: f64 = 23.0;
        let (mut x, y) = (LEFT, 33.0);
        for series in &self.series {
            shapes.push(series.line(vec![(x, y - 3.5), (x + SAMPLE, y - 3.5)]));
            x += SAMPLE + 6.0;
            shapes.push(Shape::Label(Label {
                ink: Ink::Colour(series.colour),
                ..label(&series.name, SMALL, (x, y), Anchor::Start)
            }));
            x += text_width(&series.name, SMALL) + 20.0;
        }
    }
}

/// Plain text in the colour of text.
fn label(text: &str, size: f64, at: Point, anchor: Anchor) -> Label {
    Label {
        text: text.to_owned(),
        at,
        size,
        anchor,
        ink: Ink::Text,
        bold: false,
        turned: false,
    }
}

impl Series {
    fn draw(&self, frame: &Frame, shapes: &mut Vec<Shape>) {
        let ink = Ink::Colour(self.colour);
        let band = |end: fn((f64, f64)) -> f64| {
            let ends = self.points.iter();
            ends.filter_map(move |(x, _, band)| band.map(|band| frame.place(*x, end(band))))
        };
        let upper = band(|(_, high)| high);
        let mut outline: Vec<Point> = upper.collect();
        let mut lower: Vec<Point> = band(|(low, _)| low).collect();
        lower.reverse();
        outline.extend(lower);
        if !outline.is_empty() {
            shapes.push(Shape::Area { outline, ink });
        }
        let points = self.points.iter().map(|(x, y, _)| frame.place(*x, *y));
        let points: Vec<Point> = points.collect();
        shapes.push(self.line(points.clone()));
        let dots = points
            .into_iter()
            .enumerate()
            .map(|(place, at)| Shape::Dot {
                at,
                radius: 2.6,
                ink,
                name: self.names.get(place).cloned(),
            });
        shapes.extend(dots);
    }

    fn line(&self, points: Vec<Point>) -> Shape {
        Shape::Line {
            points,
            ink: Ink::Colour(self.colour),
            width: 1.6,
            dashed: self.dashed,
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

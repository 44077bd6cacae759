//! A picture as a list of shapes, and those shapes as SVG text. No script, no font file.

use std::fmt::Write;

use super::letters;

/// A point: to the right, and down.
pub(super) type Point = (f64, f64);

/// What a shape is drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// Text and axes.
    Text,
    /// Lines that only guide the eye.
    Grid,
    /// A colour, as `#rrggbb`.
    Colour(&'static str),
}

/// Which end of a text its place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Label {
    pub(super) text: String,
    pub(super) at: Point,
    /// Height of a line, in the picture's units; capitals are 0.7 of it.
    pub(super) size: f64,
    pub(super) anchor: Anchor,
    pub(super) ink: Ink,
    pub(super) bold: bool,
    /// Runs upward.
    pub(super) turned: bool,
}

/// One thing on a picture; what comes later lies above.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Line {
        points: Vec<Point>,
        ink: Ink,
        width: f64,
        dashed: bool,
    },
    /// A faint surface.
    Area {
        outline: Vec<Point>,
        ink: Ink,
    },
    Dot {
        at: Point,
        radius: f64,
        ink: Ink,
        /// Shown where a pointer rests on it.
        name: Option<String>,
    },
    Label(Label),
}

/// A picture.
pub(super) struct Drawing {
    pub(super) title: String,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) shapes: Vec<Shape>,
}

/// How opaque an [`Shape::Area`] is.
pub(super) const AREA_OPACITY: f64 = 0.15;
/// Lengths of a dash and of the gap after it.
pub(super) const DASH: [f64; 2] = [5.0, 4.0];

/// About how wide a text is; exactly, where it is drawn with our own letters.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    f64::from(letters::layout(text).1) * letter_scale(size)
}

/// The picture's units of one unit of the letters' grid.
pub(super) fn letter_scale(size: f64) -> f64 {
    0.7 * size / 100.0
}

impl Ink {
    fn svg(self) -> &'static str {
        match self {
            Self::Text => "currentColor",
            Self::Grid => "#8884",
            Self::Colour(colour) => colour,
        }
    }
}

impl Drawing {
    pub(super) fn svg(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" fill=\"currentColor\" color=\"#444\">\
             <title>{}</title>",
            self.width,
            self.height,
            escape(&self.title)
        );
        for shape in &self.shapes {
            shape.svg(&mut out);
        }
        out.push_str("</svg>");
        out
    }
}

impl Shape {
    fn svg(&self, out: &mut String) {
        let _ = match self {
            Self::Line {
                points,
                ink,
                width,
                dashed,
            } => {
                let dash = if *dashed {
                    format!(" stroke-dasharray=\"{} {}\"", DASH[0], DASH[1])
                } else {
                    String::new()
                };
                write!(
                    out,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"\
                     {dash}/>",
                    path(points),
                    ink.svg()
                )
            }
            Self::Area { outline, ink } => write!(
                out,
                "<polygon points=\"{}\" fill=\"{}\" opacity=\"{AREA_OPACITY}\"/>",
                path(outline),
                ink.svg()
            ),
            Self::Dot {
                at,
                radius,
                ink,
                name,
            } => {
                let title = name.as_ref().map_or_else(String::new, |name| {
                    format!("<title>{}</title>", escape(name))
                });
                write!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\" fill=\"{}\">{title}</circle>",
                    at.0,
                    at.1,
                    ink.svg()
                )
            }
            Self::Label(label) => label.svg(out),
        };
    }
}

impl Label {
    fn svg(&self, out: &mut String) -> std::fmt::Result {
        let (x, y) = self.at;
        match self.turned {
            true => write!(
                out,
                "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\""
            )?,
            false => write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\"")?,
        }
        let anchor = match self.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if self.bold {
            " font-weight=\"600\""
        } else {
            ""
        };
        write!(
            out,
            " font-size=\"{}\" text-anchor=\"{anchor}\" fill=\"{}\"{weight}>{}</text>",
            self.size,
            self.ink.svg(),
            escape(&self.text)
        )
    }
}

fn path(points: &[Point]) -> String {
    let corners: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    corners.join(" ")
}

/// Text that is safe inside XML and HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

//! A drawing as a PNG picture on white, text in our own letters.

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke as Pen,
    StrokeDash, Transform,
};

use super::drawing::{
    AREA_OPACITY, Anchor, DASH, Drawing, Ink, Label, Point, Shape, letter_scale, text_width,
};
use super::letters::{Stroke, layout};

/// Pixels of one unit of a drawing.
const PIXELS: f32 = 2.0;
/// Thickness of letters on their grid.
const THIN: f64 = 10.0;
const THICK: f64 = 14.5;

impl Drawing {
    /// The picture's bytes; the reason where it cannot be made.
    pub(super) fn png(&self) -> Result<Vec<u8>, String> {
        let size = |units: f64| (units * f64::from(PIXELS)).ceil() as u32;
        let (width, height) = (size(self.width), size(self.height));
        let mut canvas = Pixmap::new(width, height)
            .ok_or_else(|| format!("a picture of {width}x{height} pixels cannot be made"))?;
        canvas.fill(Color::WHITE);
        for shape in &self.shapes {
            shape.paint(&mut canvas);
        }
        canvas.encode_png().map_err(|error| error.to_string())
    }
}

impl Ink {
    /// Red, green, blue and opacity.
    fn rgba(self) -> [u8; 4] {
        match self {
            Self::Text => [0x44, 0x44, 0x44, 255],
            Self::Grid => [0x88, 0x88, 0x88, 0x44],
            Self::Colour(colour) => {
                let digits = u32::from_str_radix(colour.trim_start_matches('#'), 16);
                let [_, red, green, blue] = digits.unwrap_or_default().to_be_bytes();
                [red, green, blue, 255]
            }
        }
    }

    fn paint(self, opacity: f64) -> Paint<'static> {
        let [red, green, blue, alpha] = self.rgba();
        let mut paint = Paint::default();
        paint.set_color_rgba8(red, green, blue, (f64::from(alpha) * opacity) as u8);
        paint.anti_alias = true;
        paint
    }
}

fn zoom() -> Transform {
    Transform::from_scale(PIXELS, PIXELS)
}

impl Shape {
    fn paint(&self, canvas: &mut Pixmap) {
        match self {
            Self::Line {
                points,
                ink,
                width,
                dashed,
            } => {
                let pen = Pen {
                    width: *width as f32,
                    line_join: LineJoin::Round,
                    dash: dashed
                        .then(|| StrokeDash::new(DASH.map(|x| x as f32).to_vec(), 0.0))
                        .flatten(),
                    ..Pen::default()
                };
                if let Some(path) = polyline(points, false) {
                    canvas.stroke_path(&path, &ink.paint(1.0), &pen, zoom(), None);
                }
            }
            Self::Area { outline, ink } => {
                if let Some(path) = polyline(outline, true) {
                    let paint = ink.paint(AREA_OPACITY);
                    canvas.fill_path(&path, &paint, FillRule::Winding, zoom(), None);
                }
            }
            Self::Dot {
                at, radius, ink, ..
            } => {
                let dot = PathBuilder::from_circle(at.0 as f32, at.1 as f32, *radius as f32);
                if let Some(path) = dot {
                    canvas.fill_path(&path, &ink.paint(1.0), FillRule::Winding, zoom(), None);
                }
            }
            Self::Label(label) => label.paint(canvas),
        }
    }
}

/// A path through points; `None` where there is nothing to draw, or nothing finite.
fn polyline(points: &[Point], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (index, (x, y)) in points.iter().enumerate() {
        match index {
            0 => path.move_to(*x as f32, *y as f32),
            _ => path.line_to(*x as f32, *y as f32),
        }
    }
    if closed {
        path.close();
    }
    path.finish()
}

impl Label {
    fn paint(&self, canvas: &mut Pixmap) {
        let scale = letter_scale(self.size) as f32;
        let before = match self.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => text_width(&self.text, self.size) / 2.0,
            Anchor::End => text_width(&self.text, self.size),
        };
        let turn = if self.turned { -90.0 } else { 0.0 };
        let place = zoom()
            .pre_translate(self.at.0 as f32, self.at.1 as f32)
            .pre_rotate(turn)
            .pre_translate(-before as f32, 0.0)
            .pre_scale(scale, -scale);
        let pen = Pen {
            width: if self.bold { THICK } else { THIN } as f32,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Pen::default()
        };
        let paint = self.ink.paint(1.0);
        for (left, strokes) in layout(&self.text).0 {
            if let Some(path) = written(&strokes) {
                let here = place.pre_translate(left, 0.0);
                canvas.stroke_path(&path, &paint, &pen, here, None);
            }
        }
    }
}

fn written(strokes: &[Stroke]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for stroke in strokes {
        match *stroke {
            Stroke::Move([x, y]) => path.move_to(x, y),
            Stroke::Line([x, y]) => path.line_to(x, y),
            Stroke::Curve([a, b, c, d, x, y]) => path.cubic_to(a, b, c, d, x, y),
            Stroke::Ring([x, y, rx, ry]) => {
                if let Some(bounds) = Rect::from_ltrb(x - rx, y - ry, x + rx, y + ry) {
                    path.push_oval(bounds);
                }
            }
            Stroke::Arc([x, y, rx, ry, from, to]) => arc(&mut path, (x, y), (rx, ry), (from, to)),
        }
    }
    path.finish()
}

/// An arc as short lines, going on from where the pen is, if it is down.
fn arc(path: &mut PathBuilder, centre: (f32, f32), radii: (f32, f32), (from, to): (f32, f32)) {
    const STEPS: u8 = 48;
    for step in 0..=STEPS {
        let angle = (from + (to - from) * f32::from(step) / f32::from(STEPS)).to_radians();
        let (x, y) = (
            centre.0 + radii.0 * angle.cos(),
            centre.1 + radii.1 * angle.sin(),
        );
        match path.is_empty() {
            true => path.move_to(x, y),
            false => path.line_to(x, y),
        }
    }
}

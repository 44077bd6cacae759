//! Names beside the points of a line: as many as have room.

use super::drawing::{Anchor, Ink, Label, Point, Shape, text_width};

const SIZE: f64 = 9.0;
/// Between a point and its name.
const GAP: f64 = 5.0;

/// Left, right, upper and lower edge.
type Box4 = [f64; 4];

/// Names that do not lie on each other, the first and the last before the others; none reaches
/// beyond `right`.
pub(super) fn point_names(points: &[(Point, &str)], right: f64, ink: Ink) -> Vec<Shape> {
    let inner = 1..points.len().saturating_sub(1);
    let ends = [0, points.len().saturating_sub(1)];
    let mut taken: Vec<Box4> = Vec::new();
    let mut shapes = Vec::new();
    for place in ends.into_iter().chain(inner) {
        let Some(((x, y), name)) = points.get(place).copied() else {
            continue;
        };
        let width = text_width(name, SIZE);
        let (anchor, left) = match x + GAP + width <= right {
            true => (Anchor::Start, x + GAP),
            false => (Anchor::End, x - GAP - width),
        };
        let own = [left, left + width, y - GAP - 0.7 * SIZE, y - GAP];
        if taken.iter().any(|other| overlap(&own, other)) {
            continue;
        }
        taken.push(own);
        shapes.push(Shape::Label(Label {
            text: name.to_owned(),
            at: (
                if anchor == Anchor::Start {
                    left
                } else {
                    left + width
                },
                y - GAP,
            ),
            size: SIZE,
            anchor,
            ink,
            bold: false,
            turned: false,
        }));
    }
    shapes
}

fn overlap(a: &Box4, b: &Box4) -> bool {
    a[0] < b[1] && b[0] < a[1] && a[2] < b[3] && b[2] < a[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(points: &[(Point, &str)]) -> Vec<(String, Anchor)> {
        let shapes = point_names(points, 300.0, Ink::Text);
        let label = |shape| match shape {
            Shape::Label(label) => (label.text, label.anchor),
            other => panic!("expected a label, got {other:?}"),
        };
        shapes.into_iter().map(label).collect()
    }

    #[test]
    fn names_have_room_and_the_ends_come_first() {
        let points = [
            ((10.0, 50.0), "0 / 1"),
            ((12.0, 52.0), "hidden"),
            ((290.0, 50.0), "1 / 0"),
        ];
        let expected = [("0 / 1", Anchor::Start), ("1 / 0", Anchor::End)];
        let expected = expected.map(|(name, anchor)| (name.to_owned(), anchor));
        assert_eq!(named(&points), expected);
        assert_eq!(named(&points[..1]), expected[..1]);
        assert!(named(&[]).is_empty());
    }
}

//! Letters as strokes, for pictures that must show text without a font file.
//!
//! Our own drawing: lines of one thickness on a grid where capitals are 100 high and small letters
//! 70, from the baseline up. A letter that is not drawn here is shown as an empty box.

/// Part of a letter's outline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stroke {
    /// Lifts the pen and puts it down here.
    Move([f32; 2]),
    /// A straight line to here.
    Line([f32; 2]),
    /// A cubic curve by its two handles and its end.
    Curve([f32; 6]),
    /// A whole ellipse: centre and radii.
    Ring([f32; 4]),
    /// Part of an ellipse, against the clock: centre, radii, first and last angle in degrees.
    Arc([f32; 6]),
}

/// Space between two letters.
const BETWEEN: f32 = 22.0;
/// Advance of a blank.
const BLANK: f32 = 36.0;

/// Each letter with its width and how it is drawn.
const LETTERS: &[(char, f32, &str)] = &[
    ('a', 58.0, "O 29 35 29 35 M 58 70 L 58 0"),
    ('b', 58.0, "M 0 100 L 0 0 O 29 35 29 35"),
    ('c', 51.0, "A 30 35 30 35 46 314"),
    ('d', 58.0, "M 58 100 L 58 0 O 29 35 29 35"),
    ('e', 58.0, "M 0 36 L 58 36 A 29 35 29 35 0 316"),
    (
        'f',
        34.0,
        "M 34 98 C 20 103 13 94 13 82 L 13 0 M 0 68 L 31 68",
    ),
    (
        'g',
        58.0,
        "O 29 35 29 35 M 58 70 L 58 -4 C 58 -21 46 -28 30 -28 C 20 -28 12 -26 5 -21",
    ),
    (
        'h',
        52.0,
        "M 0 100 L 0 0 M 0 42 C 0 60 12 70 28 70 C 44 70 52 60 52 44 L 52 0",
    ),
    ('i', 6.0, "M 3 70 L 3 0 M 3 96 L 3 97"),
    (
        'j',
        14.0,
        "M 10 70 L 10 -10 C 10 -23 4 -29 -6 -27 M 10 96 L 10 97",
    ),
    ('k', 48.0, "M 0 100 L 0 0 M 44 70 L 0 27 M 17 43 L 48 0"),
    ('l', 6.0, "M 3 100 L 3 0"),
    (
        'm',
        88.0,
        "M 0 70 L 0 0 M 0 44 C 0 60 10 70 23 70 C 38 70 44 60 44 46 L 44 0 \
         M 44 46 C 44 60 54 70 67 70 C 82 70 88 60 88 46 L 88 0",
    ),
    (
        'n',
        52.0,
        "M 0 70 L 0 0 M 0 42 C 0 60 12 70 28 70 C 44 70 52 60 52 44 L 52 0",
    ),
    ('o', 62.0, "O 31 35 31 35"),
    ('p', 58.0, "M 0 70 L 0 -28 O 29 35 29 35"),
    ('q', 58.0, "M 58 70 L 58 -28 O 29 35 29 35"),
    ('r', 28.0, "M 0 70 L 0 0 M 0 40 C 0 58 10 70 28 69"),
    (
        's',
        46.0,
        "M 44 58 C 39 66 32 70 23 70 C 11 70 3 63 3 53 C 3 42 12 39 24 36 C 37 33 46 29 46 18 \
         C 46 7 36 0 24 0 C 13 0 5 4 0 13",
    ),
    (
        't',
        34.0,
        "M 13 92 L 13 18 C 13 5 20 -1 33 2 M 0 68 L 32 68",
    ),
    (
        'u',
        52.0,
        "M 0 70 L 0 26 C 0 10 8 0 24 0 C 40 0 52 10 52 28 M 52 70 L 52 0",
    ),
    ('v', 52.0, "M 0 70 L 26 0 L 52 70"),
    ('w', 80.0, "M 0 70 L 20 0 L 40 66 L 60 0 L 80 70"),
    ('x', 48.0, "M 0 70 L 48 0 M 48 70 L 0 0"),
    (
        'y',
        52.0,
        "M 0 70 L 27 2 M 52 70 L 24 -10 C 19 -23 13 -28 0 -27",
    ),
    ('z', 48.0, "M 1 70 L 46 70 L 0 0 L 48 0"),
    ('A', 76.0, "M 0 0 L 38 100 L 76 0 M 13 34 L 63 34"),
    (
        'B',
        64.0,
        "M 0 53 L 30 53 C 48 53 58 62 58 76 C 58 91 48 100 30 100 L 0 100 L 0 0 L 30 0 \
         C 52 0 64 10 64 27 C 64 43 52 53 30 53",
    ),
    ('C', 80.0, "A 47 50 47 50 46 314"),
    (
        'D',
        76.0,
        "M 0 0 L 0 100 L 26 100 C 58 100 76 80 76 50 C 76 20 58 0 26 0 L 0 0",
    ),
    ('E', 56.0, "M 56 100 L 0 100 L 0 0 L 56 0 M 0 52 L 49 52"),
    ('F', 54.0, "M 54 100 L 0 100 L 0 0 M 0 52 L 47 52"),
    ('G', 84.0, "A 47 50 47 50 46 318 L 84 47 L 54 47"),
    ('H', 70.0, "M 0 0 L 0 100 M 70 0 L 70 100 M 0 52 L 70 52"),
    ('I', 6.0, "M 3 0 L 3 100"),
    (
        'J',
        42.0,
        "M 42 100 L 42 28 C 42 9 34 0 21 0 C 9 0 2 7 0 19",
    ),
    ('K', 64.0, "M 0 0 L 0 100 M 60 100 L 0 37 M 22 60 L 64 0"),
    ('L', 52.0, "M 0 100 L 0 0 L 52 0"),
    ('M', 84.0, "M 0 0 L 0 100 L 42 26 L 84 100 L 84 0"),
    ('N', 70.0, "M 0 0 L 0 100 L 70 0 L 70 100"),
    ('O', 98.0, "O 49 50 49 50"),
    (
        'P',
        62.0,
        "M 0 0 L 0 100 L 30 100 C 50 100 62 90 62 73 C 62 56 50 46 30 46 L 0 46",
    ),
    ('Q', 98.0, "O 49 50 49 50 M 58 26 L 92 -6"),
    (
        'R',
        66.0,
        "M 0 0 L 0 100 L 30 100 C 50 100 62 90 62 73 C 62 56 50 46 30 46 L 0 46 M 36 46 L 66 0",
    ),
    (
        'S',
        62.0,
        "M 58 83 C 52 94 42 100 30 100 C 14 100 4 90 4 76 C 4 60 16 56 32 52 C 50 48 62 43 62 26 \
         C 62 10 49 0 32 0 C 17 0 6 7 0 20",
    ),
    ('T', 68.0, "M 0 100 L 68 100 M 34 100 L 34 0"),
    (
        'U',
        68.0,
        "M 0 100 L 0 36 C 0 13 13 0 34 0 C 55 0 68 13 68 36 L 68 100",
    ),
    ('V', 72.0, "M 0 100 L 36 0 L 72 100"),
    ('W', 108.0, "M 0 100 L 27 0 L 54 96 L 81 0 L 108 100"),
    ('X', 64.0, "M 0 100 L 64 0 M 64 100 L 0 0"),
    ('Y', 68.0, "M 0 100 L 34 46 L 68 100 M 34 46 L 34 0"),
    ('Z', 64.0, "M 2 100 L 62 100 L 0 0 L 64 0"),
    ('0', 56.0, "O 28 50 28 50"),
    ('1', 56.0, "M 10 81 L 33 100 L 33 0"),
    (
        '2',
        56.0,
        "M 3 75 C 5 91 14 100 29 100 C 45 100 54 90 54 77 C 54 66 48 58 40 49 L 1 0 L 56 0",
    ),
    (
        '3',
        56.0,
        "M 4 84 C 9 94 17 100 28 100 C 43 100 52 91 52 77 C 52 63 42 54 23 54 C 44 54 56 44 56 28 \
         C 56 11 44 0 28 0 C 14 0 5 7 1 19",
    ),
    ('4', 56.0, "M 43 0 L 43 100 L 0 29 L 57 29"),
    (
        '5',
        56.0,
        "M 50 100 L 12 100 L 7 55 C 13 60 20 63 28 63 C 45 63 56 51 56 32 C 56 12 44 0 27 0 \
         C 14 0 5 6 1 18",
    ),
    ('6', 56.0, "O 28 32 27 32 M 43 100 C 29 86 6 60 2 37"),
    ('7', 56.0, "M 0 100 L 55 100 L 18 0"),
    ('8', 56.0, "O 28 77 23 23 O 28 27 28 27"),
    ('9', 56.0, "O 28 68 27 32 M 13 0 C 27 14 50 40 54 63"),
    ('.', 6.0, "M 3 2 L 3 3"),
    (',', 8.0, "M 6 4 L 1 -15"),
    (':', 6.0, "M 3 2 L 3 3 M 3 60 L 3 61"),
    (';', 8.0, "M 6 4 L 1 -15 M 5 60 L 5 61"),
    ('!', 6.0, "M 3 100 L 3 30 M 3 2 L 3 3"),
    (
        '?',
        50.0,
        "M 2 80 C 5 93 14 100 26 100 C 41 100 50 91 50 78 C 50 58 25 56 25 29 M 25 2 L 25 3",
    ),
    ('-', 34.0, "M 2 36 L 32 36"),
    ('\u{2013}', 56.0, "M 0 36 L 56 36"),
    ('\u{2014}', 90.0, "M 0 36 L 90 36"),
    ('_', 56.0, "M 0 -14 L 56 -14"),
    ('/', 40.0, "M 0 -14 L 40 106"),
    ('\\', 40.0, "M 40 -14 L 0 106"),
    ('|', 6.0, "M 3 -20 L 3 108"),
    ('(', 20.0, "M 20 112 C 0 82 0 14 20 -16"),
    (')', 20.0, "M 0 112 C 20 82 20 14 0 -16"),
    ('[', 20.0, "M 20 110 L 0 110 L 0 -16 L 20 -16"),
    (']', 20.0, "M 0 110 L 20 110 L 20 -16 L 0 -16"),
    (
        '{',
        24.0,
        "M 24 110 C 2 110 18 52 0 47 C 18 42 2 -16 24 -16",
    ),
    ('}', 24.0, "M 0 110 C 22 110 6 52 24 47 C 6 42 22 -16 0 -16"),
    ('%', 90.0, "O 19 78 19 22 O 71 22 19 22 M 76 104 L 14 -4"),
    ('+', 56.0, "M 0 36 L 56 36 M 28 64 L 28 8"),
    ('=', 56.0, "M 0 48 L 56 48 M 0 24 L 56 24"),
    ('<', 52.0, "M 52 64 L 0 36 L 52 8"),
    ('>', 52.0, "M 0 64 L 52 36 L 0 8"),
    ('*', 36.0, "M 18 100 L 18 62 M 2 91 L 34 71 M 34 91 L 2 71"),
    (
        '#',
        66.0,
        "M 24 100 L 12 0 M 56 100 L 44 0 M 4 66 L 66 66 M 0 34 L 62 34",
    ),
    (
        '@',
        96.0,
        "O 46 34 17 20 M 64 54 L 62 26 C 62 8 90 12 92 40 A 48 40 44 54 0 310",
    ),
    (
        '&',
        68.0,
        "M 66 0 L 19 62 C 9 75 12 100 33 100 C 53 100 54 75 38 65 L 15 49 C -7 33 1 0 29 0 \
         C 49 0 61 18 64 42",
    ),
    (
        '$',
        62.0,
        "M 58 83 C 52 94 42 100 30 100 C 14 100 4 90 4 76 C 4 60 16 56 32 52 C 50 48 62 43 62 26 \
         C 62 10 49 0 32 0 C 17 0 6 7 0 20 M 31 114 L 31 -14",
    ),
    ('\'', 6.0, "M 3 100 L 3 74"),
    ('"', 24.0, "M 3 100 L 3 74 M 21 100 L 21 74"),
    ('`', 18.0, "M 0 104 L 16 86"),
    ('^', 44.0, "M 0 70 L 22 100 L 44 70"),
    ('~', 60.0, "M 0 30 C 8 50 22 46 30 37 C 38 28 52 24 60 44"),
];

/// What stands for a letter that is not drawn here.
const BOX: (f32, &str) = (56.0, "M 0 0 L 56 0 L 56 100 L 0 100 L 0 0");

fn letter(c: char) -> (f32, &'static str) {
    let found = LETTERS.iter().find(|(drawn, ..)| *drawn == c);
    found.map_or(BOX, |(_, width, path)| (*width, *path))
}

/// Each letter's strokes with the place of its left edge, and the width of all.
pub(super) fn layout(text: &str) -> (Vec<(f32, Vec<Stroke>)>, f32) {
    let mut at = 0.0;
    let mut drawn = Vec::new();
    for c in text.chars() {
        if c == ' ' {
            at += BLANK;
            continue;
        }
        let (width, path) = letter(c);
        drawn.push((at, strokes(path)));
        at += width + BETWEEN;
    }
    (drawn, (at - BETWEEN).max(0.0))
}

/// Reads a path of the table: a letter for the kind, then its numbers.
fn strokes(path: &str) -> Vec<Stroke> {
    let mut words = path.split_whitespace();
    let mut strokes = Vec::new();
    while let Some(kind) = words.next() {
        let stroke = match kind {
            "M" => Stroke::Move(numbers(&mut words)),
            "L" => Stroke::Line(numbers(&mut words)),
            "C" => Stroke::Curve(numbers(&mut words)),
            "O" => Stroke::Ring(numbers(&mut words)),
            _ => Stroke::Arc(numbers(&mut words)),
        };
        strokes.push(stroke);
    }
    strokes
}

fn numbers<'a, const N: usize>(words: &mut impl Iterator<Item = &'a str>) -> [f32; N] {
    // the table is a constant, and a test reads all of it
    std::array::from_fn(|_| {
        let number = words.next().and_then(|word| word.parse().ok());
        number.unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_is_drawn_once_and_of_whole_strokes() {
        for (index, (c, width, path)) in LETTERS.iter().enumerate() {
            assert!(LETTERS[..index].iter().all(|(other, ..)| other != c), "{c}");
            assert!(*width > 0.0 && path.starts_with(['M', 'O', 'A']), "{c}");
            let mut counted = 0;
            for stroke in strokes(path) {
                counted += 1 + match stroke {
                    Stroke::Move(_) | Stroke::Line(_) => 2,
                    Stroke::Ring(_) => 4,
                    Stroke::Curve(_) | Stroke::Arc(_) => 6,
                };
            }
            let words: Vec<&str> = path.split_whitespace().collect();
            assert_eq!(counted, words.len(), "{c}");
            let known = |word: &&&str| word.parse::<f32>().is_ok() || "MLCOA".contains(**word);
            assert_eq!(words.iter().filter(known).count(), words.len(), "{c}");
        }
    }

    #[test]
    fn printable_ascii_is_all_there() {
        for c in '!'..='~' {
            assert!(LETTERS.iter().any(|(drawn, ..)| *drawn == c), "{c}");
        }
        assert_eq!(letter('\u{4e00}'), BOX);
    }

    #[test]
    fn a_text_is_as_wide_as_its_letters_and_the_space_between_them() {
        assert_eq!(layout("").1, 0.0);
        assert_eq!(layout("l").1, 6.0);
        assert_eq!(layout("l l").1, 6.0 + BETWEEN + BLANK + 6.0);
    }
}

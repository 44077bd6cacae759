//! Ends a text at the first stop string, and never lets part of one through.

/// Watches a text that comes in pieces for stop strings.
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text not yet let through: it may be the beginning of a stop string.
    held: String,
}

/// What may be shown after a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopOutcome {
    /// This much is safe to show; more may be held back.
    Emit(String),
    /// A stop string came; this is the last text before it.
    Stopped(String),
}

impl StopMatcher {
    /// Watches for any of these; empty strings never match.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|s| !s.is_empty()).collect(),
            held: String::new(),
        }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: &str) -> StopOutcome {
        self.held.push_str(piece);
        // the match that ends first wins, whatever the pieces; of those, the longest
        let first = self
            .stops
            .iter()
            .filter_map(|stop| {
                self.held
                    .find(stop.as_str())
                    .map(|at| (at + stop.len(), at))
            })
            .min();
        if let Some((_, at)) = first {
            self.held.truncate(at);
            return StopOutcome::Stopped(std::mem::take(&mut self.held));
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let held = self.held.split_off(self.held.len() - keep);
        StopOutcome::Emit(std::mem::replace(&mut self.held, held))
    }

    /// What was held back when the text ended without a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that is a proper beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|n| {
            let at = text.len() - n;
            text.is_char_boundary(at) && stop.as_bytes().starts_with(&text.as_bytes()[at..])
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[String], pieces: &[String]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.to_vec());
        let mut shown = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                StopOutcome::Emit(text) => shown.push_str(&text),
                StopOutcome::Stopped(text) => return (shown + &text, true),
            }
        }
        (shown + &matcher.finish(), false)
    }

    #[test]
    fn a_stop_string_across_pieces_never_leaks() {
        let pieces = ["one <", "st", "op> two"].map(String::from);
        assert_eq!(run(&["<stop>".into()], &pieces), ("one ".into(), true));
        let pieces = ["one <", "st", "art> two"].map(String::from);
        assert_eq!(
            run(&["<stop>".into()], &pieces),
            ("one <start> two".into(), false)
        );
    }

    proptest! {
        #[test]
        fn the_cuts_between_pieces_do_not_matter(
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            pieces in prop::collection::vec("[abcé]{0,5}", 0..12),
        ) {
            let letters: Vec<String> = pieces.concat().chars().map(String::from).collect();
            prop_assert_eq!(run(&stops, &pieces), run(&stops, &letters));
        }
    }
}

//! How far a reward model agrees with preferences, and how far length alone would.

use serde::{Deserialize, Serialize};

use crate::eval::stats::{Estimate, mean, wilson};

/// How often a reward model agrees with pairs it has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Pairs asked about.
    pub pairs: usize,
    /// Share where the preferred answer scores higher, with Wilson's 95 % interval.
    pub accuracy: Estimate,
    /// Pairs whose answers have the same number of tokens; the two shares below leave them out.
    pub same_length: usize,
    /// Share where the preferred answer is the longer one: what "longer is better" would reach,
    /// which a model must beat.
    pub longer_wins: Estimate,
    /// Share where the answer that scores higher is the longer one; far from `longer_wins` the
    /// model minds length more, or less, than people do.
    pub prefers_longer: Estimate,
    /// Mean of score(chosen) - score(rejected).
    pub mean_margin: f64,
}

/// What a reward model said of one pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judged {
    /// score(chosen) - score(rejected).
    pub(super) margin: f32,
    /// Tokens of the chosen and of the rejected answer, all of them, whatever the model was shown.
    pub(super) answer_tokens: [usize; 2],
}

impl Judged {
    fn is_right(&self) -> bool {
        self.margin > 0.0
    }

    fn is_longer_chosen(&self) -> bool {
        self.answer_tokens[0] > self.answer_tokens[1]
    }

    fn is_same_length(&self) -> bool {
        self.answer_tokens[0] == self.answer_tokens[1]
    }
}

impl Agreement {
    pub(super) fn of(judged: &[Judged]) -> Self {
        let count = |is: &dyn Fn(&Judged) -> bool| judged.iter().filter(|pair| is(pair)).count();
        let same_length = count(&Judged::is_same_length);
        let differing = judged.len() - same_length;
        // equal scores prefer neither answer
        let decided = |pair: &Judged| !pair.is_same_length() && pair.margin != 0.0;
        let for_longer =
            |pair: &Judged| decided(pair) && pair.is_right() == pair.is_longer_chosen();
        let margins: Vec<f64> = judged.iter().map(|pair| f64::from(pair.margin)).collect();
        Self {
            pairs: judged.len(),
            accuracy: wilson(count(&Judged::is_right), judged.len()),
            same_length,
            longer_wins: wilson(count(&Judged::is_longer_chosen), differing),
            prefers_longer: wilson(count(&for_longer), count(&decided)),
            mean_margin: mean(&margins),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(margin: f32, answer_tokens: [usize; 2]) -> Judged {
        Judged {
            margin,
            answer_tokens,
        }
    }

    #[test]
    fn lengths_are_compared_where_they_differ() {
        let agreement = Agreement::of(&[
            judged(1.0, [9, 3]),   // right, and the longer
            judged(2.0, [3, 9]),   // right, and the shorter
            judged(-1.0, [9, 3]),  // wrong, for the shorter
            judged(-4.0, [3, 9]),  // wrong, for the longer
            judged(-0.5, [2, 8]),  // wrong, for the longer
            judged(3.0, [700, 7]), // right, and the longer
            judged(1.5, [4, 4]),   // right, nothing to say of length
        ]);
        assert_eq!((agreement.pairs, agreement.same_length), (7, 1));
        assert_eq!(agreement.accuracy, wilson(4, 7));
        assert_eq!(agreement.longer_wins, wilson(3, 6));
        assert_eq!(agreement.prefers_longer, wilson(4, 6));
        assert!((agreement.mean_margin - 2.0 / 7.0).abs() < 1e-12);
    }

    #[test]
    fn equal_scores_are_no_preference() {
        let agreement = Agreement::of(&[judged(0.0, [3, 9]), judged(1.0, [9, 3])]);
        assert_eq!(agreement.accuracy, wilson(1, 2));
        assert_eq!(agreement.prefers_longer, wilson(1, 1));
    }
}

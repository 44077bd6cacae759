//! What a reader would notice about a set of answers: length, repetition, sameness, emptiness.
//!
//! Rewards can be pleased by text that nobody wants; these numbers show it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// Measures over the answers of one weight vector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TextMeasures {
    /// Mean words of an answer.
    pub words: f64,
    /// Mean tokens of an answer, its end token left out.
    pub tokens: f64,
    /// Different words over all words, all answers together.
    pub distinct_1: f64,
    /// Different word pairs over all word pairs.
    pub distinct_2: f64,
    /// Different word triples over all word triples.
    pub distinct_3: f64,
    /// Mean share of an answer's word triples that occurred earlier in the same answer.
    pub repetition: f64,
    /// Share of answers without any word.
    pub empty: f64,
    /// Share of answers that the policy ended itself.
    pub finished: f64,
    /// Share of answers equal to an answer to another prompt.
    pub duplicate: f64,
}

/// One answer as measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its tokens, the end token left out.
    pub tokens: usize,
    /// The policy ended it itself.
    pub finished: bool,
}

/// Measures a set of answers; `None` of an empty set.
pub fn measure(answers: &[Measured<'_>]) -> Option<TextMeasures> {
    if answers.is_empty() {
        return None;
    }
    let words: Vec<Vec<String>> = answers.iter().map(|answer| words(answer.text)).collect();
    let share = |count: usize| count as f64 / answers.len() as f64;
    let mut seen = HashSet::new();
    let repeats = answers
        .iter()
        .filter(|a| !seen.insert(a.text.trim()))
        .count();
    Some(TextMeasures {
        words: share(words.iter().map(Vec::len).sum()),
        tokens: share(answers.iter().map(|a| a.tokens).sum()),
        distinct_1: distinct(&words, 1),
        distinct_2: distinct(&words, 2),
        distinct_3: distinct(&words, 3),
        repetition: words.iter().map(|w| repetition(w)).sum::<f64>() / answers.len() as f64,
        empty: share(words.iter().filter(|w| w.is_empty()).count()),
        finished: share(answers.iter().filter(|a| a.finished).count()),
        duplicate: share(repeats),
    })
}

/// Words of a text: runs of letters, digits and apostrophes, in lower case.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Different n-grams over all n-grams; 0 where there are none.
fn distinct(texts: &[Vec<String>], n: usize) -> f64 {
    let mut seen = HashSet::new();
    let mut total = 0usize;
    for gram in texts.iter().flat_map(|words| words.windows(n)) {
        total += 1;
        seen.insert(gram);
    }
    if total == 0 {
        0.0
    } else {
        seen.len() as f64 / total as f64
    }
}

/// Share of a text's word triples that occurred earlier in it; 0 of a text of fewer words.
fn repetition(words: &[String]) -> f64 {
    let total = words.len().saturating_sub(2);
    if total == 0 {
        return 0.0;
    }
    let different: HashSet<&[String]> = words.windows(3).collect();
    1.0 - different.len() as f64 / total as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(texts: &[&str]) -> TextMeasures {
        let answers: Vec<Measured<'_>> = texts
            .iter()
            .map(|text| Measured {
                text,
                tokens: 3,
                finished: true,
            })
            .collect();
        measure(&answers).unwrap()
    }

    #[test]
    fn a_text_that_circles_is_caught() {
        let m = measured(&["a b c a b c a b c"]);
        // 7 triples: abc bca cab abc bca cab abc, 3 different.
        assert!((m.repetition - 4.0 / 7.0).abs() < 1e-12);
        assert!((m.distinct_1 - 3.0 / 9.0).abs() < 1e-12);
        assert!((m.distinct_2 - 3.0 / 8.0).abs() < 1e-12);
    }

    #[test]
    fn emptiness_and_sameness_are_shares_of_answers() {
        let m = measured(&["Yes.", "yes", " ... ", "Yes."]);
        assert_eq!((m.empty, m.duplicate, m.words), (0.25, 0.25, 0.75));
    }

    #[test]
    fn words_ignore_case_and_punctuation() {
        assert_eq!(
            words("It's 3 o'clock, IS it?"),
            ["it's", "3", "o'clock", "is", "it"]
        );
    }
}

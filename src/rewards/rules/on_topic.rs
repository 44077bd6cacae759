//! Measures whether an answer takes up what was asked: the share of the question's content words
//! that occur in it.
//!
//! A judge, not a reward: an answer that copies the question reaches 1.

use std::collections::HashSet;

use super::{per_answer, words::words};
use crate::rewards::{Exchange, RewardModel};

/// English words that hold sentences together and tell nothing of their subject.
const FUNCTION_WORDS: &str = "\
    a about above after again against all also although always am an and another any are aren as \
    at away back be because been before being below between both but by came can cannot come could \
    couldn d did didn do does doesn doing don done down during each either else ever every few for \
    from further get give given go goes going gone got had hadn has hasn have haven having he her \
    here hers herself him himself his how however i if in instead into is isn it its itself just \
    know let lets like ll m make makes many may maybe me might mine more most much must my myself \
    need never no nor not now of off often oh on once one only or other others our ours ourselves \
    out over own perhaps please quite rather re really s same say see seem shall she should \
    shouldn since so some something sometimes still such sure t take tell than thank thanks that \
    the their theirs them themselves then there these they thing things think this those though \
    through to too toward under until up upon us use used using ve very want was wasn way we well \
    went were weren what whatever when where whether which while who whom whose why will with \
    within without won would wouldn yes yet you your yours yourself";

/// Endings that make another form of a word, longest first.
const ENDINGS: [&str; 8] = ["ings", "ing", "ies", "ed", "es", "ly", "s", "e"];
/// Letters of a word that stay when an ending is taken off.
const LEAST_STEM: usize = 3;

pub(super) fn reward() -> Box<dyn RewardModel> {
    let function_words: HashSet<&'static str> = FUNCTION_WORDS.split_whitespace().collect();
    per_answer("on_topic", move |exchange: &Exchange<'_>| {
        taken_up(exchange.question(), exchange.completion, &function_words)
    })
}

/// An empty answer takes nothing up; a question without content words asks for nothing.
fn taken_up(question: &str, answer: &str, function_words: &HashSet<&str>) -> f32 {
    let answered = words(answer);
    if answered.is_empty() {
        return 0.0;
    }
    let answered: HashSet<String> = answered.into_iter().map(|word| stem(&word)).collect();
    let asked: HashSet<String> = words(question)
        .into_iter()
        .filter(|word| !function_words.contains(word.as_str()))
        .map(|word| stem(&word))
        .collect();
    if asked.is_empty() {
        return 1.0;
    }
    asked.intersection(&answered).count() as f32 / asked.len() as f32
}

/// A word without its ending, so that `cooking` and `cooks` meet `cook`.
fn stem(word: &str) -> String {
    let is_long = |stem: &str| stem.chars().count() >= LEAST_STEM;
    let cut = ENDINGS.iter().find_map(|ending| {
        let stem = word.strip_suffix(ending)?;
        // class is not the plural of clas
        let is_plural = *ending != "s" || !stem.ends_with('s');
        (is_long(stem) && is_plural).then_some(stem)
    });
    let stem = cut.unwrap_or(word);
    // berry and berries
    let stem = stem
        .strip_suffix('y')
        .filter(|stem| is_long(stem))
        .unwrap_or(stem);
    // stop and stopped
    match stem.char_indices().rev().nth(1) {
        Some((at, c)) if stem.ends_with(c) && is_long(&stem[..at + c.len_utf8()]) => {
            stem[..at + c.len_utf8()].to_owned()
        }
        _ => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(question: &str, answer: &str, expected: f32) {
        let function_words = FUNCTION_WORDS.split_whitespace().collect();
        let found = taken_up(question, answer, &function_words);
        assert!(
            (found - expected).abs() < 1e-6,
            "{question} {answer}: {found} is not {expected}"
        );
    }

    #[test]
    fn content_words_count_and_function_words_do_not() {
        let question = "How do I make a pumpkin pie for Thanksgiving?";
        check(question, "Bake the pumpkin, then fill the pie.", 2.0 / 3.0);
        check(question, "How do I make it? For you.", 0.0);
        check(question, question, 1.0);
        check(question, " ... ", 0.0);
        check("What is it?", "A cat.", 1.0);
    }

    #[test]
    fn other_forms_of_a_word_are_the_same_word() {
        for (asked, answered) in [
            ("cook", "cooking"),
            ("cooks", "cooked"),
            ("berry", "berries"),
            ("stopped", "stop"),
            ("kill", "killing"),
            ("class", "classes"),
            ("terminate", "terminating"),
            ("contract", "contracts"),
        ] {
            check(asked, answered, 1.0);
        }
        check("gas", "ga", 0.0);
        check("bed", "bring", 0.0);
    }
}

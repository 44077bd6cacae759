//! Rewards simple writing: few words per sentence and, with a word list, common words.

use std::collections::HashSet;
use std::path::Path;

use super::{
    per_answer,
    words::{sentences, words},
};
use crate::rewards::{Exchange, RewardError, RewardModel};

/// Words per sentence that cost 1.
const WORDS_PER_UNIT: f32 = 20.0;
/// Where the cost of long sentences ends, and the reward of an answer without words.
const WORST: f32 = -3.0;

pub(super) fn reward(
    common_words: Option<&Path>,
    top: usize,
) -> Result<Box<dyn RewardModel>, RewardError> {
    let common = common_words.map(|path| read_list(path, top)).transpose()?;
    Ok(per_answer("readability", move |exchange: &Exchange<'_>| {
        value(exchange.completion, common.as_ref())
    }))
}

fn value(text: &str, common: Option<&HashSet<String>>) -> f32 {
    let words = words(text);
    if words.is_empty() {
        return WORST;
    }
    let per_sentence = words.len() as f32 / sentences(text).len().max(1) as f32;
    let share = common.map_or(0.0, |common| {
        words.iter().filter(|word| common.contains(*word)).count() as f32 / words.len() as f32
    });
    share - (per_sentence / WORDS_PER_UNIT).min(-WORST)
}

fn read_list(path: &Path, top: usize) -> Result<HashSet<String>, RewardError> {
    let text = std::fs::read_to_string(path).map_err(|source| RewardError::File {
        path: path.to_owned(),
        source,
    })?;
    let list: HashSet<String> = text
        .lines()
        .filter_map(|line| line.split('\t').next())
        .map(|word| word.trim().to_lowercase())
        .filter(|word| !word.is_empty())
        .take(top)
        .collect();
    if list.is_empty() {
        let reason = format!("{} holds no word", path.display());
        return Err(RewardError::setting("readability", reason));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sentences_and_common_words_read_better() {
        let common: HashSet<String> = ["the", "dog", "ran"].map(String::from).into();
        let simple = value("The dog ran. The dog ran.", Some(&common));
        let long = value(
            "The dog ran and the dog ran and the dog ran.",
            Some(&common),
        );
        let rare = value("The axolotl ran. The axolotl ran.", Some(&common));
        assert!(simple > long && simple > rare && rare > value("", Some(&common)));
        assert_eq!(value("a b c d e f g h i j.", None), -0.5);
    }
}

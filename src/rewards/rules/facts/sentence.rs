//! When two sentences about one subject state the same fact.

use super::super::words::words;

/// Words that carry no fact of their own.
const FUNCTION_WORDS: [&str; 8] = ["the", "of", "in", "is", "a", "an", "it", "are"];
/// Words that stand for the subject.
const STAND_INS: [&str; 2] = ["there", "its"];

/// The sentence's words without function words and without its first mention of the subject.
pub(super) fn fact_key(sentence: &str, subject: &str) -> String {
    let mut kept = content_words(sentence);
    let name = content_words(subject);
    let by_name = if name.is_empty() {
        None
    } else {
        kept.windows(name.len())
            .position(|window| window == name)
            .map(|at| (at, name.len()))
    };
    let by_stand_in = kept
        .iter()
        .position(|word| STAND_INS.contains(&word.as_str()))
        .map(|at| (at, 1));
    if let Some((at, length)) = by_name.into_iter().chain(by_stand_in).min() {
        kept.drain(at..at + length);
    }
    kept.join(" ")
}

fn content_words(text: &str) -> Vec<String> {
    let mut found = words(text);
    found.retain(|word| !FUNCTION_WORDS.contains(&word.as_str()));
    found
}

#[cfg(test)]
mod tests {
    use super::fact_key;

    #[test]
    fn the_subject_and_its_stand_ins_do_not_matter() {
        let same = |subject: &str, a: &str, b: &str| {
            assert_eq!(fact_key(a, subject), fact_key(b, subject));
        };
        same(
            "Algeria",
            "About 48 million people live there.",
            "About 48 million people live in Algeria.",
        );
        same(
            "Algeria",
            "Its area is about 2,381,740 km.",
            "The area of Algeria is about 2,381,740 km.",
        );
        same(
            "Fiji",
            "In Fiji, people speak Fiji Hindi.",
            "People there speak Fiji Hindi.",
        );
        same(
            "the Cook Islands",
            "The climate is tropical.",
            "The climate of the Cook Islands is tropical.",
        );
    }

    #[test]
    fn another_subject_or_value_is_another_fact() {
        let other = |a: &str, b: &str| assert_ne!(fact_key(a, "Panama"), fact_key(b, "Panama"));
        other(
            "The capital of Panama is Panama City.",
            "The capital of Angola is Panama City.",
        );
        other(
            "The capital of Panama is Panama City.",
            "The capital of Panama is.",
        );
        other(
            "About 2.5 million people live there.",
            "About 25 million people live there.",
        );
        other("The climate is tropical.", "The climate is not tropical.");
    }
}

//! Text as rules compare it: words without case or punctuation, and sentences.

/// Words that end in a full stop without ending their sentence.
const ABBREVIATIONS: [&str; 9] = ["mt", "st", "dr", "mr", "mrs", "ms", "jr", "sr", "vs"];

/// Lower-case words. A number keeps its decimal point and loses its thousands commas.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let in_number = word.ends_with(|c: char| c.is_ascii_digit())
            && rest.peek().is_some_and(char::is_ascii_digit);
        match c {
            _ if c.is_alphanumeric() => word.extend(c.to_lowercase()),
            '.' if in_number => word.push(c),
            ',' if in_number => {}
            _ if word.is_empty() => {}
            _ => words.push(std::mem::take(&mut word)),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// True where `needle` stands in `words` as a run of whole words; an empty needle never does.
pub(super) fn contains_run(words: &[String], needle: &[String]) -> bool {
    !needle.is_empty() && words.windows(needle.len()).any(|window| window == needle)
}

/// Sentences with at least one word. One ends at a line break, or at `.`, `!` or `?` before
/// white space and anything but a lower-case letter, unless the last word is an abbreviation.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let end = at + c.len_utf8();
        let ends = match c {
            '\n' => true,
            '.' | '!' | '?' => {
                rest.peek().is_none_or(|(_, next)| next.is_whitespace())
                    && !text[end..].trim_start().starts_with(char::is_lowercase)
                    && !(c == '.' && ends_in_abbreviation(&text[start..at]))
            }
            _ => false,
        };
        if ends {
            sentences.push(&text[start..end]);
            start = end;
        }
    }
    sentences.push(&text[start..]);
    sentences.retain(|sentence| sentence.contains(char::is_alphanumeric));
    sentences.into_iter().map(str::trim).collect()
}

fn ends_in_abbreviation(text: &str) -> bool {
    let last = text
        .rsplit(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default();
    ABBREVIATIONS
        .iter()
        .any(|abbreviation| last.eq_ignore_ascii_case(abbreviation))
        && last.starts_with(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lose_case_and_punctuation_and_keep_numbers_whole() {
        let found = words("About 2,381,740 km: \"Côte d'Ivoire\", 2.5 million. 7.");
        assert_eq!(
            found,
            [
                "about", "2381740", "km", "côte", "d", "ivoire", "2.5", "million", "7"
            ]
        );
        assert!(words(" .,!").is_empty());
    }

    #[test]
    fn a_run_is_of_whole_words() {
        let found = words("About 48 million people live there.");
        assert!(contains_run(&found, &words("48 million people")));
        assert!(!contains_run(&found, &words("8 million people")));
        assert!(!contains_run(&found, &[]));
    }

    #[test]
    fn sentences_end_where_a_reader_ends_them() {
        let check = |text: &str, expected: &[&str]| assert_eq!(sentences(text), expected);
        check("One. Two! Three?", &["One.", "Two!", "Three?"]);
        check(
            "It is Mt. Fogo. About 2.5 million.",
            &["It is Mt. Fogo.", "About 2.5 million."],
        );
        check(
            "for example, e.g. this one. Yes",
            &["for example, e.g. this one.", "Yes"],
        );
        check("line one\nline two", &["line one", "line two"]);
        check("be there!. And on.", &["be there!.", "And on."]);
        check(" ... ", &[]);
    }
}

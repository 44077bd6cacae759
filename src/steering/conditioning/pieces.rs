//! A template's text, cut at its slots.

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Piece<'a> {
    /// Written as it stands.
    Text(&'a str),
    /// `{name}`: what is told of the objective, as a number.
    Number(&'a str),
    /// `{name:word}`: the word once for each unit of the last decimal. A model need not learn
    /// which number belongs to which objective: how often a word stands there says it all.
    Words(&'a str, &'a str),
}

impl Piece<'_> {
    pub(super) fn names(&self, objective: &str) -> bool {
        matches!(self, Piece::Number(name) | Piece::Words(name, _) if *name == objective)
    }
}

pub(super) fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, (slot, after))) = rest
        .split_once('{')
        .and_then(|(text, slot)| Some((text, slot.split_once('}')?)))
    {
        pieces.push(Piece::Text(text));
        pieces.push(match slot.split_once(':') {
            Some((name, word)) => Piece::Words(name, word),
            None => Piece::Number(slot),
        });
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

//! Prompts of ordinary words, drawn with a seed: any tokenizer takes them, none is favoured.

use rand::Rng;
use rand::seq::IndexedRandom;

const WORDS: &str = "\
    able about above across after again air all almost alone along already also always among and \
    animal answer any apple arm army around arrive art ask autumn away back bad ball bank basket \
    be beach bear beautiful because bed before begin behind believe bell below beside best better \
    between big bird black blue boat body book both bottle bottom box boy branch bread bridge \
    bright bring brother brown build burn but buy call can car carry castle cat catch centre \
    chair change cheap child choose church circle city class clean clear climb clock close cloud \
    coast coat cold colour come common cook corner count country course cover cow cross cup cut \
    dance dark daughter day deep desk dinner do doctor dog door down draw dream dress drink drive \
    dry duck dust each early earth east easy eat egg eight empty end enough evening ever every \
    eye face fall family far farm fast father feel few field fill find fine finger fire first \
    fish five floor flower fly follow food foot for forest forget four free fresh friend from \
    front fruit full game garden gate gather get girl give glass go gold good grass great green \
    ground group grow guess guest hair half hand happy hard hat have hear heart heavy help here \
    high hill history hold home honest hope horse hot hour house how hundred hungry hurry ice \
    idea if in inside island it join journey jump just keep key kind king kitchen knife know lake \
    lamp land language large last late laugh law lead leaf learn leave left leg lesson letter \
    life light like line listen little live long look lose loud love low lunch machine make man \
    many map market may meal mean measure meat meet middle milk minute money month moon more \
    morning most mother mountain mouth move much music must name narrow near neck need never new \
    night nine noise north nose not now number ocean of off often oil old on once one only open \
    orange order other our out over own page paint paper part party pass path pay pen people \
    perhaps picture piece place plain plant play please point poor possible potato prepare \
    pretty price promise pull push put queen question quick quiet rain reach read ready red \
    remember rest rich ride right ring rise river road rock roof room root rope round run sad \
    sail salt same sand say school sea season seat second see seed seldom sell send seven shade \
    shape share sharp sheep ship shirt shoe shop short shoulder show side silver simple sing \
    sister sit six skin sky sleep slow small smell smile snow so soft some song soon sound south \
    space speak spoon spring stand star stay step stone stop story straight strange street \
    strong student such sugar summer sun sure sweet swim table take talk tall taste teach tell \
    ten than that the then there thick thin thing think this three through time to today \
    together tomorrow too tooth top touch town train travel tree true try turn two uncle under \
    until up use valley very village visit voice wait walk wall want warm wash watch water way \
    weather week well west wet wheel when where while white who whole why wide wild wind window \
    wing winter wish with woman wonder wood word work world write wrong year yellow yes yet you \
    young";

/// So many words, with blanks between.
pub(super) fn text(words: usize, rng: &mut impl Rng) -> String {
    let all: Vec<&str> = WORDS.split_whitespace().collect();
    let drawn = (0..words).filter_map(|_| all.choose(rng).copied());
    drawn.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_seed_repeats_its_words_and_another_does_not() {
        let of = |seed| text(20, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_eq!(of(1).split(' ').count(), 20);
    }
}

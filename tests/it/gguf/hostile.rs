//! Damaged and hostile files (CVE-2026-7482, CVE-2026-53923): refused, whatever they claim, and
//! before anybody makes room for what they claim.

use proptest::prelude::*;
use steersman::gguf::GgufFile;
use steersman::model::{Decoder, Dtype};
use steersman::text::PromptEncoder;

use super::writer::{Writer, converted};
use super::written;

/// Reads a file as far as it goes.
fn read(bytes: &[u8]) -> Result<(), String> {
    let written = written(bytes);
    let file = GgufFile::open(&written.path).map_err(|error| error.to_string())?;
    let decoder = Decoder::load_gguf(&file, Dtype::F32);
    decoder.map_err(|error| error.to_string())?;
    PromptEncoder::load_gguf(&file).map_err(|error| error.to_string())?;
    Ok(())
}

fn small() -> Vec<u8> {
    let mut writer = Writer::default();
    writer.text("general.architecture", "llama");
    writer.ints("a.list", &[1, 2, 3]);
    writer.texts("a.list.of.texts", ["one", "two"]);
    writer.flags("some.flags", &[true, false]);
    writer.floats("a.tensor", &[2, 3], &[0.5; 6]);
    writer.finish()
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = small();
    let opens = |bytes: &[u8]| GgufFile::open(&written(bytes).path).is_ok();
    assert!(opens(&whole));
    // the last tensor's padding is not missed
    for length in 0..whole.len() - 8 {
        assert!(!opens(&whole[..length]), "{length} of {}", whole.len());
    }
}

#[test]
fn counts_that_the_file_cannot_hold_are_refused() {
    let whole = small();
    // tensors, entries, and the length of the first key
    for place in [8, 16, 24] {
        for count in [u64::MAX, u64::MAX / 32, 1 << 40, whole.len() as u64] {
            let mut bytes = whole.clone();
            bytes[place..place + 8].copy_from_slice(&count.to_le_bytes());
            let error = read(&bytes).unwrap_err();
            assert!(error.contains("not a whole GGUF file"), "{place}: {error}");
        }
    }
    let mut writer = Writer::default();
    writer.raw(
        "a.list",
        9,
        &[&8u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat(),
    );
    let error = read(&writer.finish()).unwrap_err();
    assert!(error.contains("elements of a list"), "{error}");
}

#[test]
fn what_only_looks_like_a_file_is_told_what_it_is() {
    let mut big = small();
    big[4..8].copy_from_slice(&3u32.to_be_bytes());
    let mut old = small();
    old[4] = 1;
    for (bytes, words) in [
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "git lfs pull",
        ),
        (b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaa".to_vec(), "`GGUF`"),
        (big, "big-endian"),
        (old, "version 1"),
        (Vec::new(), "`GGUF`"),
    ] {
        let error = read(&bytes).unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_changed_byte_ends_the_program(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = small();
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        // a file that is still sound may be read
        let _ = read(&bytes);
    }
}

#[test]
fn settings_that_no_decoder_can_have_are_refused() {
    for key in [
        "llama.attention.head_count",
        "llama.embedding_length",
        "llama.block_count",
    ] {
        for value in [0, 1_000_000] {
            let mut writer = converted("llama");
            writer.set(key, |file, key| file.count(key, value));
            assert!(read(&writer.finish()).is_err(), "{key} = {value}");
        }
    }
}

//! What names a file's content: the hub's ETag, which in the cache is the blob's name too, and for
//! most files a hash that the content can be held against.

use std::fmt;
use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// An ETag without its quotes, fit to name a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Etag(String);

impl Etag {
    /// Reads a header, `"abc"` or `W/"abc"`; none where it could not name a file.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let text = header.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = !text.is_empty()
            && text.len() <= 128
            && !text.starts_with('.')
            && text.chars().all(plain);
        is_name.then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn is_hash_of(&self, bytes: usize) -> bool {
        self.0.len() == 2 * bytes && self.0.chars().all(|c| c.is_ascii_hexdigit())
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Holds bytes, as they come, against their ETag.
///
/// Of large files (Git LFS) it is the SHA-256; of the others git's hash of a blob, in whose place
/// some mirrors send the plain SHA-1. An ETag of another form can be held against nothing.
#[derive(Clone)]
pub(super) struct Check {
    expected: String,
    sums: Vec<Context>,
}

impl Check {
    /// Of a content of `size` bytes.
    pub(super) fn new(etag: &Etag, size: u64) -> Self {
        let sums = if etag.is_hash_of(32) {
            vec![Context::new(&SHA256)]
        } else if etag.is_hash_of(20) {
            let mut blob = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            blob.update(format!("blob {size}\0").as_bytes());
            vec![blob, Context::new(&SHA1_FOR_LEGACY_USE_ONLY)]
        } else {
            Vec::new()
        };
        Self {
            expected: etag.as_str().to_ascii_lowercase(),
            sums,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sums.iter_mut().for_each(|sum| sum.update(bytes));
    }

    /// Whether the bytes so far are the content.
    pub(super) fn holds(&self) -> bool {
        let is_it = |sum: &Context| hex(sum.clone().finish().as_ref()) == self.expected;
        self.sums.is_empty() || self.sums.iter().any(is_it)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // writing to a string cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_content(etag: &str, content: &[u8]) -> bool {
        let etag = Etag::parse(etag).expect(etag);
        let mut check = Check::new(&etag, content.len() as u64);
        content.chunks(2).for_each(|piece| check.update(piece));
        check.holds()
    }

    #[test]
    fn an_etag_is_read_without_its_quotes_and_names_a_file() {
        for header in ["\"abc-1\"", "W/\"abc-1\"", "abc-1", " \"abc-1\" "] {
            assert_eq!(Etag::parse(header).expect(header).as_str(), "abc-1");
        }
        for header in [
            "", "\"\"", "\"../x\"", "\"a/b\"", "\".x\"", "\"a b\"", "\"a\0\"",
        ] {
            assert_eq!(Etag::parse(header), None, "{header:?}");
        }
    }

    /// The sums are those of sha256sum, `git hash-object` and sha1sum.
    #[test]
    fn content_is_held_against_whichever_hash_the_etag_is() {
        let sums = [
            "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4",
            "\"45B983BE36B73C0788DC9CBCB76CBB80FC7BB057\"",
            "55ca6286e3e4f4fba5d0448333fa99fc5a404a73",
        ];
        for sum in sums {
            assert!(is_content(sum, b"hi\n"), "{sum}");
            assert!(!is_content(sum, b"ho\n"), "{sum}");
            assert!(!is_content(sum, b""), "{sum}");
        }
        assert!(is_content("other-1", b"anything"));
    }
}

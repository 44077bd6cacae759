//! Reads server-sent events as they arrive, in pieces of any size.

/// Takes bytes, gives the data of whole events. OpenAI's events have one `data:` line each;
/// comments, names and ids are skipped.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    line: Vec<u8>,
}

impl EventReader {
    /// The data of the lines that these bytes complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = String::from_utf8_lossy(&self.line);
            if let Some(data) = line.trim_end_matches('\r').strip_prefix("data:") {
                found.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
            self.line.clear();
        }
        self.line.extend_from_slice(rest);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text =
            ": ping\r\ndata: {\"a\":\"\u{e9}\"}\r\n\r\nevent: x\ndata:two\n\ndata: [DONE]\n\nda";
        let expected = ["{\"a\":\"\u{e9}\"}", "two", "[DONE]"];
        for size in 1..=text.len() {
            let mut reader = EventReader::default();
            let pieces = text.as_bytes().chunks(size);
            let found: Vec<String> = pieces.flat_map(|piece| reader.push(piece)).collect();
            assert_eq!(found, expected, "pieces of {size} bytes");
        }
    }
}

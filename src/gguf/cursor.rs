//! Reads little-endian numbers and strings from the front of a byte slice, never past its end.

/// What is left to read.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    place: usize,
}

/// A reason why reading failed.
pub(super) type Reason = String;

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, place: 0 }
    }

    /// Bytes read so far.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let end = self.place.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.place..end));
        let taken = taken.ok_or_else(|| {
            let (place, left) = (self.place, self.bytes.len() - self.place);
            format!("{count} bytes are announced at byte {place}, but only {left} are left")
        })?;
        self.place += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Reason> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Reason> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Reason> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Reason> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn f32(&mut self) -> Result<f32, Reason> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    pub(super) fn f64(&mut self) -> Result<f64, Reason> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A count of things that take at least `least` bytes each: one that the file cannot hold is
    /// refused before anybody makes room for it.
    pub(super) fn count(&mut self, least: usize, what: &str) -> Result<usize, Reason> {
        let count = self.u64()?;
        let left = self.bytes.len() - self.place;
        usize::try_from(count)
            .ok()
            .filter(|count| count.checked_mul(least).is_some_and(|size| size <= left))
            .ok_or_else(|| format!("{count} {what} are announced, but only {left} bytes are left"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Reason> {
        let length = self.count(1, "bytes of text")?;
        let place = self.place;
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| format!("the text at byte {place} is not UTF-8"))
    }
}

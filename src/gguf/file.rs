//! A GGUF file, mapped into memory: its header is read and checked once, tensors when they are
//! asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::cursor::{Cursor, Reason};
use super::{BlockFormat, GgufError, Metadata};
use crate::mapped::MappedFile;

/// The first bytes of every GGUF file.
const MAGIC: &[u8; 4] = b"GGUF";
/// Where tensors begin, unless the file says otherwise, is a multiple of this.
const ALIGNMENT: usize = 32;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

/// A GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    map: MappedFile,
    metadata: Metadata,
    places: BTreeMap<String, Place>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Place {
    format: BlockFormat,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// One tensor as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct GgufTensor<'a> {
    /// How its numbers lie.
    pub format: BlockFormat,
    /// Outermost dimension first, as elsewhere in this program; the file has them reversed.
    pub shape: &'a [usize],
    /// Its blocks.
    pub bytes: &'a [u8],
}

/// Whether a path is that of a GGUF file, by its name.
pub fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

impl GgufFile {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// It is not whole, not GGUF of version 2 or 3, one part of several, or holds tensors of a
    /// type that is not read.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io {
            path: path.to_owned(),
            source,
        };
        let map = MappedFile::open(path).map_err(io)?;
        let (metadata, places) = Self::read(&map, path)?;
        if let Some(parts) = metadata.count("split.count")?.filter(|parts| *parts > 1) {
            return Err(metadata.unsupported(
                format!("only one part of {parts}"),
                "join them first (llama-gguf-split --merge)",
            ));
        }
        Ok(Self {
            map,
            metadata,
            places,
        })
    }

    fn read(map: &[u8], path: &Path) -> Result<(Metadata, BTreeMap<String, Place>), GgufError> {
        let damaged = |reason: Reason| GgufError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let mut cursor = Cursor::new(map);
        let counts = check_start(&mut cursor, map).map_err(damaged)?;
        let metadata = Metadata::read(&mut cursor, counts.1, path).map_err(damaged)?;
        let alignment = metadata.count("general.alignment")?.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() || alignment < 8 {
            let reason = format!("is {alignment}, expected a power of two from 8");
            return Err(metadata.wrong("general.alignment", reason));
        }
        let mut announced = Vec::with_capacity(counts.0);
        for _ in 0..counts.0 {
            let info = Info::read(&mut cursor).map_err(damaged)?;
            let format = BlockFormat::of(info.kind).map_err(|kind| {
                metadata.unsupported(
                    format!("tensor `{}` of type {kind}", info.name),
                    format!("supported types: {}", BlockFormat::names()),
                )
            })?;
            announced.push((info, format));
        }
        let data = cursor.place().next_multiple_of(alignment);
        let mut places = BTreeMap::new();
        for (info, format) in announced {
            let name = info.name.clone();
            let place = info.place(format, (data, alignment), map.len());
            let place = place.map_err(|why| damaged(format!("tensor `{name}` {why}")))?;
            if places.insert(name.clone(), place).is_some() {
                return Err(damaged(format!("tensor `{name}` is there twice")));
            }
        }
        Ok((metadata, places))
    }

    /// Everything beside the tensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<GgufTensor<'_>> {
        let place = self.places.get(name)?;
        Some(GgufTensor {
            format: place.format,
            shape: &place.shape,
            bytes: &self.map[place.bytes.clone()],
        })
    }

    /// Tells the system that these bytes, some of a tensor's, are not needed in memory for now.
    pub fn let_go(&self, bytes: &[u8]) {
        self.map.let_go(bytes);
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Bytes of all tensors by format, most first.
    pub fn bytes_by_format(&self) -> Vec<(BlockFormat, usize)> {
        let mut sums: Vec<(BlockFormat, usize)> = Vec::new();
        for place in self.places.values() {
            match sums.iter_mut().find(|(format, _)| *format == place.format) {
                Some((_, sum)) => *sum += place.bytes.len(),
                None => sums.push((place.format, place.bytes.len())),
            }
        }
        sums.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
        sums
    }
}

/// Refuses what is something else; counts of tensors and of metadata entries.
fn check_start(cursor: &mut Cursor<'_>, map: &[u8]) -> Result<(usize, usize), Reason> {
    if map.starts_with(b"version https://git-lfs") {
        let reason = "it is only a pointer of Git LFS; fetch the file itself with `git lfs pull`";
        return Err(reason.to_owned());
    }
    if !map.starts_with(MAGIC) {
        return Err("it does not begin with `GGUF`".to_owned());
    }
    cursor.take(MAGIC.len())?;
    match cursor.u32()? {
        2 | 3 => {}
        other if (1..=255).contains(&other.swap_bytes()) => {
            return Err("it is big-endian, expected little-endian".to_owned());
        }
        other => return Err(format!("it is of version {other}, expected 2 or 3")),
    }
    // name, dimensions, one of them, type, offset; and key, type, value
    let tensors = cursor.count(8 + 4 + 8 + 4 + 8, "tensors")?;
    let entries = cursor.count(8 + 4 + 1, "metadata entries")?;
    Ok((tensors, entries))
}

/// What the header says of a tensor.
struct Info {
    name: String,
    /// Innermost first.
    dimensions: Vec<u64>,
    kind: u32,
    offset: u64,
}

impl Info {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Reason> {
        let name = cursor.text()?.to_owned();
        let count = cursor.u32()?;
        if !(1..=MAX_DIMENSIONS).contains(&count) {
            return Err(format!(
                "tensor `{name}` has {count} dimensions, expected 1 to 4"
            ));
        }
        let dimensions = (0..count).map(|_| cursor.u64()).collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            dimensions,
            kind: cursor.u32()?,
            offset: cursor.u64()?,
        })
    }

    /// Its place, once that is known to be inside the file.
    fn place(
        &self,
        format: BlockFormat,
        (data, alignment): (usize, usize),
        file: usize,
    ) -> Result<Place, Reason> {
        let too_large = || format!("of {:?} is larger than any file", self.dimensions);
        let mut shape = Vec::with_capacity(self.dimensions.len());
        let mut count = 1usize;
        for dimension in self.dimensions.iter().rev() {
            let size = usize::try_from(*dimension).map_err(|_| too_large())?;
            count = count.checked_mul(size).ok_or_else(too_large)?;
            shape.push(size);
        }
        let row = shape.last().copied().unwrap_or_default();
        if count == 0 || format.bytes_of(row).is_none() {
            let block = format.block_len();
            return Err(format!(
                "of {shape:?} in {format} has no rows of whole blocks of {block}"
            ));
        }
        let size = format.bytes_of(count).ok_or_else(too_large)?;
        let offset = usize::try_from(self.offset).map_err(|_| too_large())?;
        if !offset.is_multiple_of(alignment) {
            return Err(format!("begins at {offset}, no multiple of {alignment}"));
        }
        let start = data.checked_add(offset).ok_or_else(too_large)?;
        let end = start.checked_add(size).ok_or_else(too_large)?;
        if end > file {
            return Err(format!(
                "ends at byte {end}, but the file has {file}; download it again"
            ));
        }
        Ok(Place {
            format,
            shape,
            bytes: start..end,
        })
    }
}

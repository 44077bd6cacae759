//! In what a tensor's numbers are stored: plain ones, or blocks that share scales.

use std::fmt;

/// How numbers lie in a file. Rows are whole blocks, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is ggml's type of its name")]
pub enum BlockFormat {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// A format with its name, ggml's number of it, and how many numbers take how many bytes.
type Row = (BlockFormat, &'static str, u32, (usize, usize));

const FORMATS: [Row; 11] = [
    (BlockFormat::F32, "F32", 0, (1, 4)),
    (BlockFormat::F16, "F16", 1, (1, 2)),
    (BlockFormat::Q4_0, "Q4_0", 2, (32, 18)),
    (BlockFormat::Q4_1, "Q4_1", 3, (32, 20)),
    (BlockFormat::Q5_0, "Q5_0", 6, (32, 22)),
    (BlockFormat::Q5_1, "Q5_1", 7, (32, 24)),
    (BlockFormat::Q8_0, "Q8_0", 8, (32, 34)),
    (BlockFormat::Q4K, "Q4_K", 12, (256, 144)),
    (BlockFormat::Q5K, "Q5_K", 13, (256, 176)),
    (BlockFormat::Q6K, "Q6_K", 14, (256, 210)),
    (BlockFormat::Bf16, "BF16", 30, (1, 2)),
];

/// Names of ggml's other types, so that a refusal can say which one it met.
const OTHERS: [(u32, &str); 18] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl BlockFormat {
    /// The format of ggml's number, or that number's name.
    pub(super) fn of(number: u32) -> Result<Self, String> {
        let found = FORMATS.iter().find(|(_, _, code, _)| *code == number);
        found.map(|(format, ..)| *format).ok_or_else(|| {
            let other = OTHERS.iter().find(|(code, _)| *code == number);
            other.map_or(format!("number {number}"), |(_, name)| (*name).to_owned())
        })
    }

    /// The names of all.
    pub(super) fn names() -> String {
        FORMATS.map(|(_, name, ..)| name).join(", ")
    }

    fn row(self) -> &'static Row {
        let found = FORMATS.iter().find(|(format, ..)| *format == self);
        // every format has its row; the first is only there for the type
        found.unwrap_or(&FORMATS[0])
    }

    /// Its name in ggml.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Numbers of one block.
    pub fn block_len(self) -> usize {
        self.row().3.0
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.row().3.1
    }

    /// Whether several numbers share a scale.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of so many numbers, where they are whole blocks.
    pub(super) fn bytes_of(self, count: usize) -> Option<usize> {
        let blocks = count / self.block_len();
        let whole = count.is_multiple_of(self.block_len());
        whole
            .then(|| blocks.checked_mul(self.block_bytes()))
            .flatten()
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

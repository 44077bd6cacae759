//! A GGUF file's metadata: typed values by key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::GgufError;
use super::cursor::{Cursor, Reason};

/// One value. Whole numbers of all widths are one kind, and so are fractions.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of any width and sign.
    Int(i128),
    /// Of either width.
    Float(f64),
    /// True or false.
    Flag(bool),
    /// A string.
    Text(String),
    /// A list of strings.
    Texts(Vec<String>),
    /// A list of whole numbers.
    Ints(Vec<i64>),
    /// A list of fractions.
    Floats(Vec<f32>),
    /// A list of flags.
    Flags(Vec<bool>),
}

/// All values of a file.
#[derive(Debug, Clone)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Value {
    /// Whether it switches nothing on.
    pub fn is_off(&self) -> bool {
        match self {
            Self::Int(value) => *value == 0,
            Self::Float(value) => *value == 0.0,
            Self::Flag(value) => !value,
            Self::Text(value) => value.is_empty() || value == "none",
            Self::Texts(values) => values.is_empty(),
            Self::Ints(values) => values.iter().all(|value| *value == 0),
            Self::Floats(values) => values.iter().all(|value| *value == 0.0),
            Self::Flags(values) => values.iter().all(|value| !value),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a fraction",
            Self::Flag(_) => "a flag",
            Self::Text(_) => "a text",
            Self::Texts(_) => "a list of texts",
            Self::Ints(_) => "a list of whole numbers",
            Self::Floats(_) => "a list of fractions",
            Self::Flags(_) => "a list of flags",
        }
    }

    fn read(cursor: &mut Cursor<'_>, kind: u32) -> Result<Self, Reason> {
        Ok(match kind {
            6 => Self::Float(f64::from(cursor.f32()?)),
            12 => Self::Float(cursor.f64()?),
            7 => Self::Flag(flag(cursor)?),
            8 => Self::Text(cursor.text()?.to_owned()),
            9 => {
                let kind = cursor.u32()?;
                Self::read_list(cursor, kind)?
            }
            _ => Self::Int(int(cursor, kind)?),
        })
    }

    fn read_list(cursor: &mut Cursor<'_>, kind: u32) -> Result<Self, Reason> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err("a list of lists, which no key of a model is".to_owned()),
            other => return Err(unknown(other)),
        };
        let count = cursor.count(width, "elements of a list")?;
        let each = 0..count;
        Ok(match kind {
            6 => Self::Floats(each.map(|_| cursor.f32()).collect::<Result<_, _>>()?),
            // nobody reads fractions of a list more closely
            12 => Self::Floats(
                each.map(|_| cursor.f64().map(|value| value as f32))
                    .collect::<Result<_, _>>()?,
            ),
            7 => Self::Flags(each.map(|_| flag(cursor)).collect::<Result<_, _>>()?),
            8 => Self::Texts(
                each.map(|_| cursor.text().map(str::to_owned))
                    .collect::<Result<_, _>>()?,
            ),
            _ => Self::Ints(
                each.map(|_| {
                    let value = int(cursor, kind)?;
                    i64::try_from(value).map_err(|_| format!("{value} is larger than any id"))
                })
                .collect::<Result<_, _>>()?,
            ),
        })
    }
}

fn unknown(kind: u32) -> Reason {
    format!("a value of type {kind}, expected 0 to 12")
}

fn flag(cursor: &mut Cursor<'_>) -> Result<bool, Reason> {
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("a flag of {other}, expected 0 or 1")),
    }
}

fn int(cursor: &mut Cursor<'_>, kind: u32) -> Result<i128, Reason> {
    Ok(match kind {
        0 => cursor.u8()?.into(),
        1 => (cursor.u8()? as i8).into(),
        2 => cursor.u16()?.into(),
        3 => (cursor.u16()? as i16).into(),
        4 => cursor.u32()?.into(),
        5 => (cursor.u32()? as i32).into(),
        10 => cursor.u64()?.into(),
        11 => (cursor.u64()? as i64).into(),
        other => return Err(unknown(other)),
    })
}

impl Metadata {
    /// Reads `count` entries.
    pub(super) fn read(cursor: &mut Cursor<'_>, count: usize, path: &Path) -> Result<Self, Reason> {
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            let value = Value::read(cursor, kind).map_err(|why| format!("`{key}`: {why}"))?;
            if values.insert(key.to_owned(), value).is_some() {
                return Err(format!("metadata `{key}` is there twice"));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            values,
        })
    }

    /// The file it is from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every key with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A value of any kind.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => {
                let shown = match value {
                    Value::Int(value) => value.to_string(),
                    Value::Float(value) => value.to_string(),
                    other => other.kind().to_owned(),
                };
                Err(self.wrong(key, format!("is {shown}, expected {expected}")))
            }
        }
    }

    /// What is wrong with an entry, as an error.
    pub fn wrong(&self, key: &str, reason: impl Into<String>) -> GgufError {
        GgufError::Metadata {
            path: self.path.clone(),
            key: key.into(),
            reason: reason.into().into(),
        }
    }

    /// What is not supported, as an error.
    pub fn unsupported(
        &self,
        feature: impl Into<String>,
        supported: impl Into<String>,
    ) -> GgufError {
        GgufError::Unsupported {
            path: self.path.clone(),
            feature: feature.into().into(),
            supported: supported.into().into(),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// It is something else, as with all that follow.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number from 0.
    pub fn count(&self, key: &str) -> Result<Option<usize>, GgufError> {
        self.typed(key, "a whole number from 0", |value| match value {
            Value::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        })
    }

    /// The same, which must be there.
    pub fn required_count(&self, key: &str) -> Result<usize, GgufError> {
        self.count(key)?
            .ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a finite number", |value| match value {
            Value::Float(value) => Some(*value).filter(|value| value.is_finite()),
            Value::Int(value) => Some(*value as f64),
            _ => None,
        })
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", |value| match value {
            Value::Flag(value) => Some(*value),
            _ => None,
        })
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.typed(key, "a list of texts", |value| match value {
            Value::Texts(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// A list of whole numbers.
    pub fn ints(&self, key: &str) -> Result<Option<&[i64]>, GgufError> {
        self.typed(key, "a list of whole numbers", |value| match value {
            Value::Ints(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// A list of fractions.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.typed(key, "a list of fractions", |value| match value {
            Value::Floats(values) => Some(values.as_slice()),
            _ => None,
        })
    }
}

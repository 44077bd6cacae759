//! The objectives that a policy trades off, in their fixed order.

use serde::{Deserialize, Serialize};

use super::{WeightError, WeightVector};

/// Something that a policy can be asked to give more or less weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// `[a-z][a-z0-9_-]{0,31}`.
    pub name: String,
    /// One sentence for the people who set its weight.
    #[serde(default)]
    pub description: String,
    /// Weight, before normalisation, where a request names none.
    #[serde(default = "one")]
    pub default_weight: f32,
    /// Lowest weight that a request may name, before normalisation; 0 or more.
    #[serde(default)]
    pub min_weight: f32,
    /// Highest weight that a request may name; none is unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_weight: Option<f32>,
}

fn one() -> f32 {
    1.0
}

/// A non-empty list of objectives with distinct names, in the order that the policy was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Objective>", into = "Vec<Objective>")]
pub struct ObjectiveSet(Vec<Objective>);

impl ObjectiveSet {
    /// Checks names, ranges and defaults.
    pub fn new(objectives: Vec<Objective>) -> Result<Self, WeightError> {
        let wrong = |reason: String| Err(WeightError::Definition(reason));
        if objectives.is_empty() {
            return wrong("objectives are empty, expected at least one".into());
        }
        for (index, objective) in objectives.iter().enumerate() {
            let Objective {
                name,
                default_weight,
                min_weight,
                max_weight,
                ..
            } = objective;
            let mut letters = name.chars();
            let starts_well = letters.next().is_some_and(|c| c.is_ascii_lowercase());
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
            if !starts_well || !letters.all(plain) || name.len() > 32 {
                return wrong(format!(
                    "objective name `{name}` is not [a-z][a-z0-9_-]{{0,31}}"
                ));
            }
            if objectives[..index].iter().any(|other| other.name == *name) {
                return Err(WeightError::Duplicate { name: name.clone() });
            }
            let top = max_weight.unwrap_or(f32::MAX);
            let range =
                *min_weight >= 0.0 && min_weight <= default_weight && *default_weight <= top;
            if !range || !default_weight.is_finite() || top.is_nan() {
                return wrong(format!(
                    "objective `{name}` needs 0 <= min_weight <= default_weight <= max_weight"
                ));
            }
        }
        let set = Self(objectives);
        if set
            .0
            .iter()
            .all(|objective| objective.default_weight == 0.0)
        {
            return Err(WeightError::AllZero { known: set.names() });
        }
        Ok(set)
    }

    /// Number of objectives.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true; here because a length without it surprises.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The objectives, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Objective> {
        self.0.iter()
    }

    /// The names, joined for a sentence.
    pub fn names(&self) -> String {
        self.0
            .iter()
            .map(|o| o.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Place of an objective in the order.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|objective| objective.name == name)
    }

    /// Weights by name; an objective that is not named counts 0.
    ///
    /// ```
    /// use steersman::steering::{Objective, ObjectiveSet};
    /// let objective = |name: &str| Objective {
    ///     name: name.into(),
    ///     description: String::new(),
    ///     default_weight: 1.0,
    ///     min_weight: 0.0,
    ///     max_weight: None,
    /// };
    /// let set = ObjectiveSet::new(vec![objective("brevity"), objective("detail")])?;
    /// let weights = set.from_named(&[("detail".into(), 3.0), ("brevity".into(), 1.0)])?;
    /// assert_eq!(weights.as_slice(), [0.25, 0.75]);
    /// # Ok::<(), steersman::steering::WeightError>(())
    /// ```
    pub fn from_named(&self, named: &[(String, f64)]) -> Result<WeightVector, WeightError> {
        let mut raw = vec![None; self.len()];
        for (name, weight) in named {
            let index = self
                .index(name)
                .ok_or_else(|| WeightError::UnknownObjective {
                    name: name.clone(),
                    known: self.names(),
                })?;
            if raw[index].replace(*weight).is_some() {
                return Err(WeightError::Duplicate { name: name.clone() });
            }
        }
        let raw: Vec<f64> = raw
            .into_iter()
            .map(|weight| weight.unwrap_or(0.0))
            .collect();
        self.from_ordered(&raw)
    }

    /// Weights in the order of the objectives.
    pub fn from_ordered(&self, raw: &[f64]) -> Result<WeightVector, WeightError> {
        if raw.len() != self.len() {
            let (found, expected) = (raw.len(), self.len());
            return Err(WeightError::WrongLength {
                found,
                expected,
                known: self.names(),
            });
        }
        for (objective, weight) in self.0.iter().zip(raw) {
            let top = objective.max_weight.unwrap_or(f32::MAX);
            if !(objective.min_weight..=top).contains(&(*weight as f32)) {
                let expected = match objective.max_weight {
                    Some(top) => format!("a number from {} to {top}", objective.min_weight),
                    None => format!(
                        "a finite number from {} to {:e}",
                        objective.min_weight,
                        f32::MAX
                    ),
                };
                let (name, value) = (objective.name.clone(), *weight);
                return Err(WeightError::OutOfRange {
                    name,
                    value,
                    expected,
                });
            }
        }
        let total: f64 = raw.iter().sum();
        if total == 0.0 {
            return Err(WeightError::AllZero {
                known: self.names(),
            });
        }
        Ok(WeightVector::on_simplex(
            raw.iter().map(|weight| weight / total),
        ))
    }

    /// The weights where a request names none.
    pub fn defaults(&self) -> WeightVector {
        let total: f64 = self.0.iter().map(|o| f64::from(o.default_weight)).sum();
        WeightVector::on_simplex(self.0.iter().map(|o| f64::from(o.default_weight) / total))
    }

    /// The same weight for each.
    pub fn equal(&self) -> WeightVector {
        WeightVector::on_simplex((0..self.len()).map(|_| 1.0 / self.len() as f64))
    }

    /// All weight on one objective.
    pub fn one_hot(&self, index: usize) -> WeightVector {
        WeightVector::on_simplex((0..self.len()).map(|i| f64::from(u8::from(i == index))))
    }
}

impl TryFrom<Vec<Objective>> for ObjectiveSet {
    type Error = WeightError;

    fn try_from(objectives: Vec<Objective>) -> Result<Self, WeightError> {
        Self::new(objectives)
    }
}

impl From<ObjectiveSet> for Vec<Objective> {
    fn from(set: ObjectiveSet) -> Self {
        set.0
    }
}

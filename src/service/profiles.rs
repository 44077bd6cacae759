//! Profiles: weights with a name, for a product or a user.
//!
//! A profile says nothing of a model: its weights meet a policy's objectives when it is used.

use super::app::App;
use super::error::RequestError;
use super::keys::now;
use super::offer::RawWeights;
use crate::store::{Expected, ProfileDraft, ProfileRow, Store, StoreError, Written};

/// Most objectives that a profile may weigh.
const MAX_OBJECTIVES: usize = 64;
/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 1000;
/// Most profiles of one page.
pub const MAX_PAGE: u32 = 100;

/// Weights with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its id.
    pub id: String,
    /// Raw weights by objective, as they were written.
    pub weights: Vec<(String, f64)>,
    /// What it is for.
    pub description: String,
    /// 1 when it is new, one more with each change.
    pub version: i64,
    /// How many comparisons it has learned from since its weights were last set by hand.
    pub comparisons: i64,
    /// The weights that were last set by hand, if that is known.
    pub stated_weights: Option<Vec<(String, f64)>>,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    pub updated_at: i64,
}

/// What a profile shall be.
#[derive(Debug, Clone)]
pub struct ProfileInput {
    /// Its id.
    pub id: String,
    /// Its weights, by name.
    pub weights: RawWeights,
    /// What it is for.
    pub description: String,
    /// The version that must be there; 0 is none.
    pub expected_version: Option<i64>,
}

impl App {
    /// The profile of an id.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn profile(&self, id: &str) -> Result<Profile, RequestError> {
        let found = match (&self.store, is_profile_id(id)) {
            (Some(store), true) => store.profile(id).await?,
            _ => None,
        };
        found
            .as_ref()
            .map(Profile::of)
            .transpose()?
            .ok_or_else(|| no_profile(id))
    }

    /// Up to `limit` profiles by id, those after `after`; and whether there are more.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn profiles(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Profile>, bool), RequestError> {
        let limit = limit.min(MAX_PAGE);
        let Some(store) = &self.store else {
            return Ok((Vec::new(), false));
        };
        let mut rows = store.profiles(after.unwrap_or(""), limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let page = rows.iter().map(Profile::of).collect::<Result<_, _>>()?;
        Ok((page, more))
    }

    /// Makes or changes a profile; true where it is new.
    ///
    /// # Errors
    /// It cannot be so, is not of the version expected, or cannot be written.
    pub async fn put_profile(&self, input: ProfileInput) -> Result<(Profile, bool), RequestError> {
        let weights = check(&input)?;
        let store = self.profile_store()?;
        let expected = match input.expected_version {
            None => Expected::Any,
            Some(0) => Expected::Absent,
            Some(version) => Expected::Version(version),
        };
        let draft = ProfileDraft {
            id: input.id,
            weights: written(&weights),
            description: input.description,
            at: now(),
        };
        match store.put_profile(&draft, expected).await? {
            Written::Done(version) => Ok((self.profile(&draft.id).await?, version == 1)),
            Written::Other(found) => Err(changed(&draft.id, found, input.expected_version)),
        }
    }

    /// Removes a profile and the comparisons it learned from.
    ///
    /// # Errors
    /// There is none, it is not of the version expected, or it cannot be removed.
    pub async fn delete_profile(
        &self,
        id: &str,
        expected_version: Option<i64>,
    ) -> Result<(), RequestError> {
        let store = self.profile_store()?;
        if !is_profile_id(id) {
            return Err(no_profile(id));
        }
        match store.delete_profile(id, expected_version).await? {
            Written::Done(()) => Ok(()),
            Written::Other(None) => Err(no_profile(id)),
            Written::Other(found) => Err(changed(id, found, expected_version)),
        }
    }

    /// The weights of a name that may be a profile's.
    pub(super) async fn find_weights(
        &self,
        name: &str,
    ) -> Result<Option<RawWeights>, RequestError> {
        match self.profile(name).await {
            Ok(profile) => Ok(Some(RawWeights::Named(profile.weights))),
            Err(RequestError::ProfileNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The store, for what cannot be done without one.
    pub(super) fn profile_store(&self) -> Result<&Store, RequestError> {
        self.store.as_ref().ok_or(RequestError::NoStore)
    }
}

impl Profile {
    fn of(row: &ProfileRow) -> Result<Self, StoreError> {
        let read = |text: &String| {
            let weights: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
                .map_err(|_| StoreError::Row(format!("the weights of the profile {}", row.id)))?;
            let number = |weight: serde_json::Value| weight.as_f64().unwrap_or(f64::NAN);
            let pairs = weights
                .into_iter()
                .map(|(name, weight)| (name, number(weight)));
            Ok::<Vec<_>, StoreError>(pairs.collect())
        };
        Ok(Self {
            id: row.id.clone(),
            weights: read(&row.weights)?,
            stated_weights: row.stated_weights.as_ref().map(read).transpose()?,
            description: row.description.clone(),
            version: row.version,
            comparisons: row.comparisons,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// `[a-z0-9][a-z0-9._-]{0,63}`: safe in paths, headers and behind an `@`.
pub(super) fn is_profile_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    id.len() <= 64 && id.starts_with(plain) && id.chars().all(|c| plain(c) || "._-".contains(c))
}

/// Weights as the store keeps them.
pub(super) fn written(weights: &[(String, f64)]) -> String {
    let pairs = weights
        .iter()
        .map(|(name, weight)| (name.clone(), serde_json::json!(weight)));
    serde_json::Value::Object(pairs.collect()).to_string()
}

fn no_profile(id: &str) -> RequestError {
    RequestError::ProfileNotFound {
        name: super::app::clipped(id),
        from: None,
    }
}

pub(super) fn changed(id: &str, found: Option<i64>, expected: Option<i64>) -> RequestError {
    RequestError::ProfileChanged {
        id: id.to_owned(),
        found: match found {
            Some(version) => format!("is of version {version}"),
            None => "does not exist".to_owned(),
        },
        expected: match expected {
            Some(0) => "none".to_owned(),
            Some(version) => format!("version {version}"),
            None => "no change meanwhile".to_owned(),
        },
    }
}

fn check(input: &ProfileInput) -> Result<Vec<(String, f64)>, RequestError> {
    let invalid = |param: &str, problem: String| RequestError::invalid(param, problem);
    if !is_profile_id(&input.id) {
        let problem = format!(
            "must be 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, the first a letter or \
             digit, got `{}`",
            super::app::clipped(&input.id)
        );
        return Err(invalid("id", problem));
    }
    let length = input.description.chars().count();
    if length > MAX_DESCRIPTION {
        let problem = format!("must have at most {MAX_DESCRIPTION} characters, got {length}");
        return Err(invalid("description", problem));
    }
    if input.expected_version.is_some_and(|version| version < 0) {
        return Err(invalid(
            "expected_version",
            "must be 0 (no profile) or more".to_owned(),
        ));
    }
    let RawWeights::Named(weights) = &input.weights else {
        let problem = "must be an object of objective names and numbers: a profile belongs to no \
                       model, so it has no order of objectives";
        return Err(RequestError::invalid("objective_weights", problem));
    };
    check_weights(weights)?;
    Ok(weights.clone())
}

fn check_weights(weights: &[(String, f64)]) -> Result<(), RequestError> {
    let count = weights.len();
    if count == 0 || count > MAX_OBJECTIVES {
        let problem = format!("must name 1 to {MAX_OBJECTIVES} objectives, got {count}");
        return Err(RequestError::invalid("objective_weights", problem));
    }
    for (name, weight) in weights {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        let named = name.starts_with(|c: char| c.is_ascii_lowercase());
        if !named || !name.chars().all(plain) || name.len() > 32 {
            let problem = format!(
                "names the objective `{}`; objectives are called [a-z][a-z0-9_-]{{0,31}}",
                super::app::clipped(name)
            );
            return Err(RequestError::invalid("objective_weights", problem));
        }
        // no checkpoint may allow others: see `ObjectiveSet::new`
        if !(0.0..=f64::from(f32::MAX)).contains(weight) {
            let problem = format!("must be a finite number of at least 0, got {weight}");
            return Err(RequestError::invalid(
                format!("objective_weights.{name}"),
                problem,
            ));
        }
    }
    if weights.iter().all(|(_, weight)| *weight == 0.0) {
        let problem = "are all zero, expected at least one above zero";
        return Err(RequestError::invalid("objective_weights", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_in_paths_and_suffixes() {
        for id in ["a", "0", "team.a_b-c", &"x".repeat(64)] {
            assert!(is_profile_id(id), "{id}");
        }
        for id in [
            "",
            ".a",
            "-a",
            "_a",
            "A",
            "a/b",
            "a@b",
            "a=b",
            "ä",
            "a b",
            "a\0",
            "..",
            &"x".repeat(65),
        ] {
            assert!(!is_profile_id(id), "{id}");
        }
    }

    #[test]
    fn weights_that_no_checkpoint_could_take_are_refused() {
        let check = |pairs: &[(&str, f64)], words: Option<&str>| {
            let weights: Vec<_> = pairs.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect();
            match (check_weights(&weights), words) {
                (Ok(()), None) => {}
                (Err(error), Some(words)) => {
                    assert!(error.to_string().contains(words), "{error}");
                }
                (found, _) => panic!("{pairs:?}: {found:?}"),
            }
        };
        check(&[("a", 1.0), ("b", 0.0)], None);
        check(&[], Some("1 to 64"));
        check(&[("a", -1.0)], Some("objective_weights.a"));
        check(&[("a", f64::NAN)], Some("finite"));
        check(&[("a", f64::INFINITY)], Some("finite"));
        check(&[("a", 1e300)], Some("finite"));
        check(&[("a", 0.0)], Some("zero"));
        check(&[("A", 1.0)], Some("`A`"));
        check(&[("", 1.0)], Some("``"));
    }

    #[test]
    fn weights_are_kept_in_their_order() {
        let weights = [("b".to_owned(), 0.7), ("a".to_owned(), 0.3)];
        assert_eq!(written(&weights), r#"{"b":0.7,"a":0.3}"#);
    }
}

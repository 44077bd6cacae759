//! The responses of reward servers: as many finite numbers as were asked for, in that order.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ServiceError;
use super::shape::{HttpShape, LabelChoice};

#[derive(Deserialize)]
struct Rewards {
    rewards: Vec<f64>,
}

#[derive(Deserialize)]
struct Data<T> {
    data: Vec<T>,
}

#[derive(Deserialize)]
struct Classified {
    index: usize,
    probs: Vec<f64>,
}

#[derive(Deserialize)]
struct Score {
    index: usize,
    score: f64,
}

#[derive(Deserialize)]
struct Pooled {
    index: usize,
    data: PooledValues,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PooledValues {
    Sequence(Vec<f64>),
    Tokens(Vec<Vec<f64>>),
}

#[derive(Deserialize)]
struct Reranked {
    results: Vec<Relevance>,
}

#[derive(Deserialize)]
struct Relevance {
    index: usize,
    relevance_score: f64,
}

#[derive(Deserialize)]
struct Prediction {
    label: String,
    score: f64,
}

/// `count` numbers of a response, in the order of the request.
pub(super) fn read(
    shape: HttpShape,
    label: Option<&LabelChoice>,
    count: usize,
    body: Value,
) -> Result<Vec<f32>, ServiceError> {
    let values = match shape {
        HttpShape::Openrlhf => parse::<Rewards>(body)?.rewards,
        HttpShape::VllmClassify => {
            let rows = parse::<Data<Classified>>(body)?.data.into_iter();
            let chosen = rows.map(|row| Ok((row.index, by_place(label, &row.probs)?)));
            in_order(chosen.collect::<Result<_, ServiceError>>()?, count)?
        }
        HttpShape::VllmScore => {
            let rows = parse::<Data<Score>>(body)?.data.into_iter();
            in_order(rows.map(|row| (row.index, row.score)).collect(), count)?
        }
        HttpShape::VllmPooling => {
            let rows = parse::<Data<Pooled>>(body)?.data.into_iter();
            let chosen = rows.map(|row| Ok((row.index, of_pool(label, &row.data)?)));
            in_order(chosen.collect::<Result<_, ServiceError>>()?, count)?
        }
        HttpShape::VllmRerank => {
            let rows = parse::<Reranked>(body)?.results.into_iter();
            let pairs = rows.map(|row| (row.index, row.relevance_score));
            in_order(pairs.collect(), count)?
        }
        HttpShape::TeiPredict => parse::<Vec<Vec<Prediction>>>(body)?
            .iter()
            .map(|labels| by_name(label, labels))
            .collect::<Result<_, _>>()?,
        HttpShape::TeiRerank => {
            let rows = parse::<Vec<Score>>(body)?.into_iter();
            in_order(rows.map(|row| (row.index, row.score)).collect(), count)?
        }
    };
    if values.len() != count {
        return Err(wrong_count(values.len(), count));
    }
    values.into_iter().enumerate().map(finite).collect()
}

fn parse<T: DeserializeOwned>(body: Value) -> Result<T, ServiceError> {
    serde_json::from_value(body).map_err(|error| ServiceError::Shape(error.to_string()))
}

fn wrong_count(actual: usize, expected: usize) -> ServiceError {
    ServiceError::Shape(format!("{actual} values for {expected} texts"))
}

/// A number that is finite in 64 bits can be infinite in 32.
fn finite((place, value): (usize, f64)) -> Result<f32, ServiceError> {
    let narrow = value as f32;
    match narrow.is_finite() {
        true => Ok(narrow),
        false => Err(ServiceError::Shape(format!(
            "{value} for text {place}, expected a finite number"
        ))),
    }
}

/// Servers may answer in any order and say which is which.
fn in_order(pairs: Vec<(usize, f64)>, count: usize) -> Result<Vec<f64>, ServiceError> {
    if pairs.len() != count {
        return Err(wrong_count(pairs.len(), count));
    }
    let mut values = vec![None; count];
    for (index, value) in pairs {
        match values.get_mut(index) {
            Some(place @ None) => *place = Some(value),
            Some(_) => {
                return Err(ServiceError::Shape(format!("two values of index {index}")));
            }
            None => {
                let reason = format!("index {index} for {count} texts");
                return Err(ServiceError::Shape(reason));
            }
        }
    }
    // as many as places, none twice: all are there
    Ok(values.into_iter().flatten().collect())
}

fn by_place(label: Option<&LabelChoice>, values: &[f64]) -> Result<f64, ServiceError> {
    let count = values.len();
    match (label, values) {
        (Some(LabelChoice::Index(place)), _) => values.get(*place).copied().ok_or_else(|| {
            ServiceError::Shape(format!("{count} labels, and `label` is {place} (from 0)"))
        }),
        (None, [only]) => Ok(*only),
        _ => Err(ServiceError::Shape(format!(
            "{count} labels, and `label` does not say which one is the reward"
        ))),
    }
}

fn of_pool(label: Option<&LabelChoice>, values: &PooledValues) -> Result<f64, ServiceError> {
    match values {
        PooledValues::Sequence(values) => by_place(label, values),
        PooledValues::Tokens(rows) => {
            let last = rows.last();
            let last = last.ok_or_else(|| ServiceError::Shape("no token's values".to_owned()))?;
            by_place(label, last)
        }
    }
}

fn by_name(label: Option<&LabelChoice>, labels: &[Prediction]) -> Result<f64, ServiceError> {
    let names = || labels.iter().map(|l| l.label.as_str()).collect::<Vec<_>>();
    match (label, labels) {
        (Some(LabelChoice::Name(name)), _) => {
            let mut found = labels.iter().filter(|l| l.label == *name);
            match (found.next(), found.next()) {
                (Some(found), None) => Ok(found.score),
                _ => Err(ServiceError::Shape(format!(
                    "the labels {:?}, expected `{name}` once",
                    names()
                ))),
            }
        }
        (None, [only]) => Ok(only.score),
        _ => Err(ServiceError::Shape(format!(
            "the labels {:?}, and `label` does not say which one is the reward",
            names()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(shape: HttpShape, count: usize, body: Value, says: &str) {
        let error = read(shape, None, count, body)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn values_follow_their_index() {
        let body = json!({"data": [{"index": 1, "score": 5.0}, {"index": 0, "score": -1.5}]});
        let values = read(HttpShape::VllmScore, None, 2, body).expect("sound");
        assert_eq!(values, [-1.5, 5.0]);
    }

    #[test]
    fn a_wrong_count_or_index_is_refused() {
        let score = |index: usize| json!({"index": index, "score": 1.0});
        let data = |rows: Vec<Value>| json!({"data": rows});
        let shape = HttpShape::VllmScore;
        refused(shape, 2, data(vec![score(0)]), "1 values for 2");
        refused(
            shape,
            2,
            data(vec![score(0), score(0)]),
            "two values of index 0",
        );
        refused(shape, 2, data(vec![score(0), score(2)]), "index 2");
        refused(
            HttpShape::Openrlhf,
            1,
            json!({"rewards": [1, 2]}),
            "2 values for 1",
        );
    }

    #[test]
    fn what_is_no_finite_number_is_refused() {
        let shape = HttpShape::Openrlhf;
        refused(shape, 1, json!({"rewards": [null]}), "null");
        refused(shape, 1, json!({"rewards": ["1"]}), "string");
        refused(shape, 1, json!({"rewards": [1e39]}), "finite");
        refused(shape, 1, json!({"scores": [1.0]}), "rewards");
    }

    #[test]
    fn several_labels_need_a_choice() {
        let two = json!([[{"label": "good", "score": 2.0}, {"label": "bad", "score": -2.0}]]);
        refused(HttpShape::TeiPredict, 1, two.clone(), "does not say which");
        let choice = LabelChoice::Name("bad".to_owned());
        let read = |body| read(HttpShape::TeiPredict, Some(&choice), 1, body);
        assert_eq!(read(two).expect("sound"), [-2.0]);
        let other = json!([[{"label": "good", "score": 2.0}]]);
        assert!(
            read(other)
                .expect_err("missing")
                .to_string()
                .contains("`bad`")
        );
    }

    #[test]
    fn a_pool_of_tokens_counts_its_last_one() {
        let body = json!({"data": [{"index": 0, "data": [[1.0], [2.0], [3.0]]}]});
        assert_eq!(
            read(HttpShape::VllmPooling, None, 1, body).expect("sound"),
            [3.0]
        );
        let body = json!({"data": [{"index": 0, "data": [0.5]}]});
        assert_eq!(
            read(HttpShape::VllmPooling, None, 1, body).expect("sound"),
            [0.5]
        );
    }
}

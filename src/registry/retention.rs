//! Which checkpoints a policy no longer needs.

use crate::store::PolicyCheckpointRow;

/// Newest ones that are kept whatever they are.
const NEWEST: usize = 3;

/// Ids of those that are neither needed nor among the newest three nor the best measured.
/// `rows` are one policy's, newest first.
pub(super) fn removable(rows: &[&PolicyCheckpointRow], needed: &[&str]) -> Vec<String> {
    let best = rows
        .iter()
        .filter_map(|row| Some((score(row)?, &row.id)))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, id)| id.as_str());
    let old = rows.iter().skip(NEWEST);
    old.filter(|row| row.stage != "live")
        .filter(|row| !needed.contains(&row.id.as_str()) && best != Some(row.id.as_str()))
        .map(|row| row.id.clone())
        .collect()
}

fn score(row: &PolicyCheckpointRow) -> Option<f64> {
    let evaluation: serde_json::Value = serde_json::from_str(&row.evaluation).ok()?;
    evaluation.get("mean_inner_product")?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, score: f64) -> PolicyCheckpointRow {
        PolicyCheckpointRow {
            policy: "p".to_owned(),
            id: id.to_owned(),
            stage: "candidate".to_owned(),
            origin: String::new(),
            evaluation: format!(r#"{{"mean_inner_product": {score}}}"#),
            bytes: 1,
            created_at: 0,
        }
    }

    #[test]
    fn the_newest_three_the_best_and_the_needed_stay() {
        let rows: Vec<_> = [
            ("7", 0.1),
            ("6", 0.2),
            ("5", 0.1),
            ("4", 0.1),
            ("3", 0.9),
            ("2", 0.0),
        ]
        .map(|(id, score)| row(id, score))
        .into();
        let rows: Vec<_> = rows.iter().collect();
        assert_eq!(removable(&rows, &[]), ["4", "2"]);
        assert_eq!(removable(&rows, &["2"]), ["4"]);
        assert!(removable(&rows[..3], &[]).is_empty());
    }
}

//! What was live before: the way back of a rollback.

use crate::store::PolicyHistoryRow;

/// The checkpoint that `live` replaced when it was promoted last; `Some(None)` is what the model's
/// folder holds, `None` that there is no way back. `history` is latest first.
pub fn live_before(history: &[PolicyHistoryRow], live: Option<&str>) -> Option<Option<String>> {
    let live = live?;
    let promoted = history
        .iter()
        .find(|row| row.action == "promote" && row.live.as_deref() == Some(live))?;
    Some(promoted.replaced.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes in their order, as `(action, live, replaced)`.
    fn history(changes: &[(&str, &str, &str)]) -> Vec<PolicyHistoryRow> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let row =
            |(place, (action, live, replaced)): (usize, &(&str, &str, &str))| PolicyHistoryRow {
                policy: "p".to_owned(),
                version: place as i64 + 1,
                action: (*action).to_owned(),
                live: some(live),
                replaced: some(replaced),
                at: 0,
            };
        changes.iter().enumerate().map(row).rev().collect()
    }

    #[test]
    fn the_way_back_goes_step_by_step_to_the_folders_own() {
        let told = history(&[("promote", "a", ""), ("promote", "b", "a")]);
        assert_eq!(live_before(&told, Some("b")), Some(Some("a".to_owned())));
        assert_eq!(live_before(&told, Some("a")), Some(None));
        assert_eq!(live_before(&told, None), None);
        assert_eq!(live_before(&told, Some("c")), None);
    }

    #[test]
    fn a_rollback_is_no_promotion() {
        let told = history(&[
            ("promote", "a", ""),
            ("promote", "b", "a"),
            ("rollback", "a", "b"),
        ]);
        assert_eq!(live_before(&told, Some("a")), Some(None));
    }
}

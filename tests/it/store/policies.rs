//! What both databases must do alike with policies and their checkpoints.

use steersman::store::{PolicyChange, PolicyCheckpointRow, PolicyRow, Store, Written};

use super::contract::on_each;

fn change(action: &'static str, live: Option<&str>, replaced: Option<&str>) -> PolicyChange {
    PolicyChange {
        id: "kind".to_owned(),
        action,
        live: live.map(str::to_owned),
        replaced: replaced.map(str::to_owned),
        canary: None,
        at: 5,
    }
}

fn checkpoint(id: &str, at: i64) -> PolicyCheckpointRow {
    PolicyCheckpointRow {
        policy: "kind".to_owned(),
        id: id.to_owned(),
        stage: "candidate".to_owned(),
        origin: "job-1".to_owned(),
        evaluation: r#"{"mean_inner_product":0.25}"#.to_owned(),
        bytes: 1 << 40,
        created_at: at,
    }
}

#[tokio::test]
async fn a_policy_changes_only_from_the_version_that_is_expected() {
    on_each(async |store: &Store| {
        let promote = change("promote", Some("a"), None);
        let other = store.change_policy(&promote, 3).await.unwrap();
        assert_eq!(other, Written::Other(None));
        assert_eq!(store.policy("kind").await.unwrap(), None);
        assert_eq!(
            store.change_policy(&promote, 0).await.unwrap(),
            Written::Done(1)
        );
        let other = store.change_policy(&promote, 0).await.unwrap();
        assert_eq!(other, Written::Other(Some(1)));
        let canary = PolicyChange {
            canary: Some(("b".to_owned(), 0.25)),
            ..change("canary", Some("a"), Some("a"))
        };
        assert_eq!(
            store.change_policy(&canary, 1).await.unwrap(),
            Written::Done(2)
        );
        let expected = PolicyRow {
            id: "kind".to_owned(),
            version: 2,
            live: Some("a".to_owned()),
            canary: Some("b".to_owned()),
            canary_share: 0.25,
            updated_at: 5,
        };
        assert_eq!(store.policies().await.unwrap(), [expected]);
        let back = change("rollback", None, Some("a"));
        assert_eq!(
            store.change_policy(&back, 2).await.unwrap(),
            Written::Done(3)
        );
        let history = store.policy_history("kind").await.unwrap();
        let told: Vec<_> = history
            .iter()
            .map(|row| (row.version, row.action.as_str(), row.live.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                (3, "rollback", None),
                (2, "canary", Some("a")),
                (1, "promote", Some("a"))
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn the_stages_of_checkpoints_follow_the_policy() {
    on_each(async |store: &Store| {
        for (id, at) in [("a", 1), ("b", 2), ("c", 3)] {
            store
                .add_policy_checkpoint(&checkpoint(id, at))
                .await
                .unwrap();
        }
        // the same again changes nothing
        store
            .add_policy_checkpoint(&checkpoint("a", 9))
            .await
            .unwrap();
        let stages = async || {
            let rows = store.policy_checkpoints().await.unwrap();
            rows.into_iter()
                .map(|row| (row.id, row.stage))
                .collect::<Vec<_>>()
        };
        let expected = |list: [(&str, &str); 3]| list.map(|(id, s)| (id.to_owned(), s.to_owned()));
        store
            .change_policy(&change("promote", Some("a"), None), 0)
            .await
            .unwrap();
        let told = expected([("c", "candidate"), ("b", "candidate"), ("a", "live")]);
        assert_eq!(stages().await, told);
        store
            .change_policy(&change("promote", Some("b"), Some("a")), 1)
            .await
            .unwrap();
        let told = expected([("c", "candidate"), ("b", "live"), ("a", "retired")]);
        assert_eq!(stages().await, told);
        store.set_evaluation("kind", "c", "{}").await.unwrap();
        assert_eq!(
            store.policy_checkpoints().await.unwrap()[0].evaluation,
            "{}"
        );
        assert!(
            !store.remove_policy_checkpoint("kind", "b").await.unwrap(),
            "it is live"
        );
        assert!(store.remove_policy_checkpoint("kind", "a").await.unwrap());
        assert!(!store.remove_policy_checkpoint("kind", "a").await.unwrap());
        assert_eq!(store.policy_checkpoints().await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn of_many_changes_at_once_one_is_made() {
    on_each(async |store: &Store| {
        for expected in 0..3 {
            let promote = change("promote", Some("a"), None);
            let changes = (0..8).map(|_| store.change_policy(&promote, expected));
            let made = futures::future::join_all(changes).await;
            let done = made.iter().filter(|m| matches!(m, Ok(Written::Done(_))));
            assert_eq!(done.count(), 1);
        }
        assert_eq!(store.policy_history("kind").await.unwrap().len(), 3);
    })
    .await;
}

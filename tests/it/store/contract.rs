//! What both databases must do alike.

use steersman::store::{
    ComparisonRow, Expected, KeyRow, ProfileDraft, ProfileRow, Store, StoreError, StoreSettings,
    Written,
};

use super::backends;

fn draft(id: &str, weights: &str, at: i64) -> ProfileDraft {
    ProfileDraft {
        id: id.to_owned(),
        weights: weights.to_owned(),
        description: format!("of {id}, naïve ☂"),
        at,
    }
}

fn comparison(id: &str, profile: &str, model: &str) -> ComparisonRow {
    ComparisonRow {
        id: id.to_owned(),
        profile: profile.to_owned(),
        model: model.to_owned(),
        policy_version: "kind-1".to_owned(),
        rewards_chosen: r#"{"a":1.5,"b":-2.0}"#.to_owned(),
        rewards_rejected: r#"{"a":0.5,"b":0.0}"#.to_owned(),
        created_at: 7,
    }
}

fn key(id: &str, digest: u8) -> KeyRow {
    KeyRow {
        id: id.to_owned(),
        digest: vec![digest; 32],
        name: "a team".to_owned(),
        scopes: "generate profiles".to_owned(),
        default_profile: None,
        weight_ranges: "[]".to_owned(),
        requests_per_minute: Some(60),
        tokens_per_minute: None,
        created_at: 100 + i64::from(digest),
        expires_at: Some(i64::MAX),
        revoked_at: None,
    }
}

/// Runs a test on a fresh store of each kind.
pub(super) async fn on_each(test: impl AsyncFn(&Store)) {
    for backend in backends().await {
        backend.announce();
        let store = Store::open(&backend.settings).await.unwrap();
        test(&store).await;
        store.close().await;
        backend.end().await;
    }
}

#[tokio::test]
async fn profiles_are_made_changed_read_and_removed() {
    on_each(async |store: &Store| {
        assert_eq!(store.profile("calm").await.unwrap(), None);
        let put = store
            .put_profile(&draft("calm", "{}", 1), Expected::Any)
            .await;
        assert_eq!(put.unwrap(), Written::Done(1));
        let put = store
            .put_profile(&draft("calm", r#"{"a":1}"#, 5), Expected::Any)
            .await;
        assert_eq!(put.unwrap(), Written::Done(2));
        let expected = ProfileRow {
            id: "calm".to_owned(),
            weights: r#"{"a":1}"#.to_owned(),
            description: "of calm, naïve ☂".to_owned(),
            version: 2,
            created_at: 1,
            updated_at: 5,
            comparisons: 0,
            stated_weights: Some(r#"{"a":1}"#.to_owned()),
        };
        assert_eq!(store.profile("calm").await.unwrap(), Some(expected));
        let gone = store.delete_profile("calm", None).await.unwrap();
        assert_eq!(gone, Written::Done(()));
        assert_eq!(store.profile("calm").await.unwrap(), None);
        let gone = store.delete_profile("calm", None).await.unwrap();
        assert_eq!(gone, Written::Other(None));
    })
    .await;
}

#[tokio::test]
async fn a_write_that_expects_another_version_changes_nothing() {
    on_each(async |store: &Store| {
        let put = async |expected| {
            let draft = draft("calm", "{}", 1);
            store.put_profile(&draft, expected).await.unwrap()
        };
        assert_eq!(put(Expected::Version(1)).await, Written::Other(None));
        assert_eq!(put(Expected::Absent).await, Written::Done(1));
        assert_eq!(put(Expected::Absent).await, Written::Other(Some(1)));
        assert_eq!(put(Expected::Version(1)).await, Written::Done(2));
        assert_eq!(put(Expected::Version(1)).await, Written::Other(Some(2)));
        let delete = async |version| store.delete_profile("calm", version).await.unwrap();
        assert_eq!(delete(Some(1)).await, Written::Other(Some(2)));
        assert_eq!(delete(Some(2)).await, Written::Done(()));
    })
    .await;
}

#[tokio::test]
async fn pages_go_by_id_in_the_same_order_everywhere() {
    on_each(async |store: &Store| {
        // a locale would sort these otherwise
        for id in ["b", "a-b", "a.b", "a_b", "ab", "a", "0", "a0"] {
            let put = store.put_profile(&draft(id, "{}", 1), Expected::Any).await;
            put.unwrap();
        }
        let page = async |after: &str, limit| -> Vec<String> {
            let rows = store.profiles(after, limit).await.unwrap();
            rows.into_iter().map(|row| row.id).collect()
        };
        assert_eq!(page("", 3).await, ["0", "a", "a-b"]);
        assert_eq!(page("a-b", 3).await, ["a.b", "a0", "a_b"]);
        assert_eq!(page("a_b", 9).await, ["ab", "b"]);
        assert!(page("b", 9).await.is_empty());
        // a cursor need not exist
        assert_eq!(page("a1", 1).await, ["a_b"]);
    })
    .await;
}

#[tokio::test]
async fn a_comparison_and_what_it_teaches_are_one_write() {
    on_each(async |store: &Store| {
        let put = store
            .put_profile(&draft("calm", "{}", 1), Expected::Any)
            .await;
        put.unwrap();
        let learned = draft("calm", r#"{"a":0.6}"#, 9);
        let learn = async |id: &str, model: &str, version| {
            let row = comparison(id, "calm", model);
            store.learn(&row, &learned, version).await.unwrap()
        };
        assert!(learn("cmp_1", "kind", 1).await);
        assert!(!learn("cmp_2", "kind", 1).await, "version 1 is over");
        assert!(learn("cmp_3", "kind", 2).await);
        assert!(learn("cmp_4", "other", 3).await);
        let profile = store.profile("calm").await.unwrap().unwrap();
        assert_eq!(profile.weights, r#"{"a":0.6}"#);
        assert_eq!(profile.description, "of calm, naïve ☂");
        assert_eq!((profile.version, profile.comparisons), (4, 3));

        let latest = store.comparisons("calm", "kind", 10).await.unwrap();
        let kept = ["cmp_3", "cmp_1"].map(|id| comparison(id, "calm", "kind"));
        assert_eq!(latest, kept);
        assert_eq!(store.comparisons("calm", "kind", 1).await.unwrap().len(), 1);

        // the same weights again are none that were set anew, others are
        let put = async |weights: &str, expected| {
            let draft = draft("calm", weights, 10);
            store.put_profile(&draft, expected).await.unwrap();
            let row = store.profile("calm").await.unwrap().unwrap();
            (row.stated_weights, row.comparisons)
        };
        let stated = Some("{}".to_owned());
        assert_eq!(
            put(r#"{"a":0.6}"#, Expected::Any).await,
            (stated.clone(), 3)
        );
        assert_eq!(put(r#"{"a":0.6}"#, Expected::Version(5)).await, (stated, 3));
        let other = Some(r#"{"b":1}"#.to_owned());
        assert_eq!(put(r#"{"b":1}"#, Expected::Any).await, (other.clone(), 0));
        assert!(
            store
                .comparisons("calm", "kind", 10)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(learn("cmp_5", "kind", 7).await);
        let profile = store.profile("calm").await.unwrap().unwrap();
        assert_eq!((profile.stated_weights, profile.comparisons), (other, 1));

        // one id cannot be taken twice, and then nothing of it is written
        let again = comparison("cmp_1", "calm", "kind");
        assert!(store.learn(&again, &learned, 8).await.is_err());
        let profile = store.profile("calm").await.unwrap().unwrap();
        assert_eq!(profile.version, 8);

        store.delete_profile("calm", None).await.unwrap();
        let left = store.comparisons("calm", "kind", 10).await.unwrap();
        assert!(left.is_empty(), "they go with their profile");
        assert!(!store.learn(&again, &learned, 4).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn keys_are_found_by_digest_and_revoked_once() {
    on_each(async |store: &Store| {
        assert!(!store.has_keys().await.unwrap());
        let (one, other) = (key("key_1", 1), key("key_2", 2));
        store.add_key(&one).await.unwrap();
        store.add_key(&other).await.unwrap();
        assert!(
            store.add_key(&key("key_3", 1)).await.is_err(),
            "a digest is one key's"
        );
        assert_eq!(store.key_of(&[2; 32]).await.unwrap(), Some(other.clone()));
        assert_eq!(store.key_of(&[9; 32]).await.unwrap(), None);
        assert!(store.revoke_key("key_1", 50).await.unwrap());
        assert!(store.revoke_key("key_1", 60).await.unwrap());
        assert!(!store.revoke_key("key_9", 60).await.unwrap());
        let revoked = KeyRow {
            revoked_at: Some(50),
            ..one
        };
        assert_eq!(store.keys().await.unwrap(), [revoked, other]);
        store.revoke_key("key_2", 60).await.unwrap();
        assert!(
            store.has_keys().await.unwrap(),
            "a revoked key still closes the server"
        );
    })
    .await;
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    for backend in backends().await {
        let store = Store::open(&backend.settings).await.unwrap();
        let put = store
            .put_profile(&draft("calm", "{}", 1), Expected::Any)
            .await;
        put.unwrap();
        // a second server on the same state, while the first still runs
        let second = Store::open(&backend.settings).await.unwrap();
        assert!(second.profile("calm").await.unwrap().is_some());
        let put = second
            .put_profile(&draft("calm", "{}", 2), Expected::Version(1))
            .await;
        assert_eq!(put.unwrap(), Written::Done(2));
        assert_eq!(store.profile("calm").await.unwrap().unwrap().version, 2);
        store.close().await;
        second.close().await;
        backend.end().await;
    }
}

#[tokio::test]
async fn writers_at_once_wait_for_each_other() {
    for backend in backends().await {
        // several that find the tables missing, as servers that start together do
        let opened = (0..4).map(|_| Store::open(&backend.settings));
        let stores: Vec<_> = futures::future::join_all(opened).await;
        let stores: Vec<Store> = stores.into_iter().map(Result::unwrap).collect();
        let writes = (0..80).map(|index| {
            let store = stores[index % stores.len()].clone();
            async move {
                let put = store
                    .put_profile(&draft("calm", "{}", 1), Expected::Any)
                    .await;
                assert!(matches!(put, Ok(Written::Done(_))), "{put:?}");
            }
        });
        futures::future::join_all(writes).await;
        let profile = stores[0].profile("calm").await.unwrap().unwrap();
        assert_eq!(profile.version, 80, "no write was lost");
        for store in &stores {
            store.close().await;
        }
        backend.end().await;
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_refused_without_its_password() {
    let open = async |url: &str| {
        let settings = StoreSettings {
            database_url: Some(url.to_owned()),
            ..StoreSettings::default()
        };
        let error = Store::open(&settings).await.map(drop).unwrap_err();
        let told = format!("{} {settings:?}", steersman::service::chain(&error));
        assert!(!told.contains("canary"), "{told}");
        error
    };
    let wrong = open("mysql://u:canary@127.0.0.1/x").await;
    assert!(matches!(wrong, StoreError::Address), "{wrong}");
    let wrong = open("postgres://u:canary@127.0.0.1:canary/x").await;
    assert!(matches!(wrong, StoreError::Address), "{wrong}");
    // nobody listens on port 1
    let wrong = open("postgres://u:canary@127.0.0.1:1/x").await;
    assert!(matches!(wrong, StoreError::Connect(_)), "{wrong}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = StoreSettings {
        data_dir: file.path().to_owned(),
        database_url: None,
    };
    let error = Store::open(&settings).await.map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Folder { .. }), "{error}");
}

//! Jobs, their events and files: what both databases must do alike.

use steersman::store::{
    CheckpointRow, EventDraft, FileRow, JobChange, JobDraft, JobFence, JobRow, JobTurn, JobWritten,
    Store, Turned,
};

use super::backends;

fn draft(id: &str) -> JobDraft {
    JobDraft {
        id: id.to_owned(),
        kind: "mo_odpo".to_owned(),
        spec: r#"{"naïve":"☂"}"#.to_owned(),
        training_file: "file-1".to_owned(),
        validation_file: None,
        total_steps: 8,
    }
}

fn event(message: &str) -> EventDraft {
    EventDraft {
        level: "info",
        kind: "message",
        message: message.to_owned(),
        data: None,
        at: 7,
    }
}

fn fence(job: &JobRow) -> JobFence {
    JobFence {
        job: job.id.clone(),
        attempt: job.attempt,
    }
}

fn done(wanted: &str) -> JobWritten {
    JobWritten::Done {
        wanted: wanted.to_owned(),
    }
}

/// Runs a test on a fresh store of each kind.
async fn on_each(test: impl AsyncFn(&Store)) {
    for backend in backends().await {
        backend.announce();
        let store = Store::open(&backend.settings).await.unwrap();
        test(&store).await;
        store.close().await;
        backend.end().await;
    }
}

async fn add(store: &Store, id: &str) {
    store.add_job(&draft(id), &event("made")).await.unwrap();
}

async fn claim(store: &Store, owner: &str, now_ms: i64) -> Option<JobRow> {
    let claimed = store.claim_job(owner, now_ms, now_ms + 1000).await;
    claimed.unwrap()
}

async fn state(store: &Store, id: &str) -> String {
    store.job(id).await.unwrap().unwrap().state
}

/// All messages of a job in their order; fails unless their places are 1, 2, 3, …
async fn messages(store: &Store, id: &str) -> Vec<String> {
    let events = store.events_after(id, 0, 1000).await.unwrap();
    let places: Vec<i64> = events.iter().map(|event| event.seq).collect();
    let expected: Vec<i64> = (1..).take(events.len()).collect();
    assert_eq!(places, expected, "places of events have no gap");
    events.into_iter().map(|event| event.message).collect()
}

#[tokio::test]
async fn the_oldest_job_is_taken_up_once_and_again_when_its_lease_is_over() {
    on_each(async |store: &Store| {
        assert_eq!(claim(store, "a", 1_000_000).await, None);
        add(store, "ftjob-1").await;
        add(store, "ftjob-2").await;
        assert!(store.has_open_jobs().await.unwrap());
        let one = claim(store, "a", 1_000_000).await.unwrap();
        assert_eq!((one.id.as_str(), one.attempt), ("ftjob-1", 1));
        assert_eq!(
            (one.state.as_str(), one.lease_until),
            ("running", 1_001_000)
        );
        let other = claim(store, "b", 1_000_001).await.unwrap();
        assert_eq!(other.id, "ftjob-2");
        assert_eq!(claim(store, "c", 1_000_900).await, None, "both leases hold");
        let beat = store.beat(&fence(&one), 2_000_000).await.unwrap();
        assert_eq!(beat, done("run"));
        let again = claim(store, "c", 1_001_500).await.unwrap();
        assert_eq!((again.id.as_str(), again.attempt), ("ftjob-2", 2));
        assert_eq!((again.started_at, again.lost_in_row), (Some(1000), 1));
        let told = messages(store, "ftjob-2").await;
        assert_eq!(told[1], "b takes the job up");
        assert!(told[2].contains("c takes the job over") && told[2].contains('b'));
    })
    .await;
}

#[tokio::test]
async fn no_write_with_an_old_token_is_accepted() {
    on_each(async |store: &Store| {
        add(store, "ftjob-1").await;
        let stale = fence(&claim(store, "a", 1_000_000).await.unwrap());
        let fresh = fence(&claim(store, "b", 2_000_000).await.unwrap());
        let before = store.job("ftjob-1").await.unwrap().unwrap();
        assert_eq!(
            store.beat(&stale, i64::MAX).await.unwrap(),
            JobWritten::Refused
        );
        let checkpoint = CheckpointRow {
            job: "ftjob-1".to_owned(),
            step: 4,
            attempt: 1,
            folder: "x".to_owned(),
            metrics: "{}".to_owned(),
            content: Some("ab".to_owned()),
            created_at: 7,
        };
        let everything = JobChange {
            state: Some("succeeded"),
            step: Some(8),
            total_steps: Some(9),
            trained_tokens: Some(10),
            error: Some("{}".to_owned()),
            result: Some("{}".to_owned()),
            finished_at: Some(7),
            saved: true,
            checkpoint: Some(checkpoint.clone()),
        };
        let written = store.change_job(&stale, &everything, &event("late")).await;
        assert_eq!(written.unwrap(), JobWritten::Refused);
        assert_eq!(store.stop_job(&stale, 7).await.unwrap(), None);
        assert_eq!(store.job("ftjob-1").await.unwrap().unwrap(), before);
        assert!(
            store
                .checkpoints("ftjob-1", None, 9)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(
            !messages(store, "ftjob-1")
                .await
                .contains(&"late".to_owned())
        );

        let written = store
            .change_job(&fresh, &everything, &event("in time"))
            .await;
        assert_eq!(written.unwrap(), done("run"));
        let after = store.job("ftjob-1").await.unwrap().unwrap();
        assert_eq!(
            (after.state.as_str(), after.step, after.lease_until),
            ("succeeded", 8, 0)
        );
        let kept = CheckpointRow {
            attempt: 2,
            ..checkpoint
        };
        assert_eq!(store.checkpoints("ftjob-1", None, 9).await.unwrap(), [kept]);
        // what is over takes no writes, not even with the last token
        assert_eq!(
            store.beat(&fresh, i64::MAX).await.unwrap(),
            JobWritten::Refused
        );
        assert!(!store.has_open_jobs().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_job_turns_at_once_where_nobody_runs_it_and_is_asked_where_somebody_does() {
    on_each(async |store: &Store| {
        let turn = async |id: &str, turn, now_ms| {
            let turned = store.turn_job(id, turn, now_ms, &event("turn")).await;
            turned.unwrap()
        };
        assert_eq!(turn("ftjob-9", JobTurn::Pause, 0).await, Turned::NoJob);
        add(store, "ftjob-1").await;
        assert_eq!(turn("ftjob-1", JobTurn::Pause, 0).await, Turned::Now);
        assert_eq!(
            turn("ftjob-1", JobTurn::Pause, 0).await,
            Turned::Not("paused".into())
        );
        assert_eq!(
            claim(store, "a", 1_000_000).await,
            None,
            "a paused job waits"
        );
        assert_eq!(turn("ftjob-1", JobTurn::Resume, 0).await, Turned::Now);

        let held = fence(&claim(store, "a", 1_000_000).await.unwrap());
        assert_eq!(
            turn("ftjob-1", JobTurn::Pause, 1_000_500).await,
            Turned::Asked
        );
        assert_eq!(store.beat(&held, 1_001_000).await.unwrap(), done("pause"));
        assert_eq!(
            turn("ftjob-1", JobTurn::Resume, 1_000_500).await,
            Turned::Asked
        );
        assert_eq!(store.beat(&held, 1_001_000).await.unwrap(), done("run"));
        // nobody asks any more: whoever stops leaves the job to the next
        assert_eq!(
            store.stop_job(&held, 7).await.unwrap().as_deref(),
            Some("queued")
        );

        let held = fence(&claim(store, "a", 1_000_000).await.unwrap());
        turn("ftjob-1", JobTurn::Pause, 1_000_500).await;
        assert_eq!(
            store.stop_job(&held, 7).await.unwrap().as_deref(),
            Some("paused")
        );
        turn("ftjob-1", JobTurn::Resume, 0).await;

        let held = fence(&claim(store, "a", 1_000_000).await.unwrap());
        turn("ftjob-1", JobTurn::Cancel, 1_000_500).await;
        assert_eq!(
            turn("ftjob-1", JobTurn::Pause, 1_000_500).await,
            Turned::Not("running".into())
        );
        // it pauses by itself while it is asked to end
        let pause = JobChange {
            state: Some("paused"),
            error: Some(r#"{"code":"no_space"}"#.to_owned()),
            ..JobChange::default()
        };
        let paused = store.change_job(&held, &pause, &event("no space")).await;
        paused.unwrap();
        let job = store.job("ftjob-1").await.unwrap().unwrap();
        assert_eq!(
            (job.state.as_str(), job.finished_at, job.error),
            ("cancelled", Some(7), None)
        );
        let told = store.events_after("ftjob-1", 0, 99).await.unwrap();
        let last = &told.last().unwrap().message;
        assert!(last.ends_with("and is cancelled"), "{last}");
        assert_eq!(
            turn("ftjob-1", JobTurn::Resume, 0).await,
            Turned::Not("cancelled".into())
        );

        // a worker that is gone answers nobody
        add(store, "ftjob-2").await;
        let lost = fence(&claim(store, "a", 1_000_000).await.unwrap());
        assert_eq!(
            turn("ftjob-2", JobTurn::Cancel, 1_002_000).await,
            Turned::Now
        );
        assert_eq!(state(store, "ftjob-2").await, "cancelled");
        assert_eq!(
            store.beat(&lost, i64::MAX).await.unwrap(),
            JobWritten::Refused
        );
        messages(store, "ftjob-1").await;
    })
    .await;
}

#[tokio::test]
async fn workers_that_ask_at_once_get_different_jobs() {
    on_each(async |store: &Store| {
        for index in 0..6 {
            add(store, &format!("ftjob-{index}")).await;
        }
        let claims = (0..12).map(|owner| {
            let store = store.clone();
            async move { claim(&store, &format!("w{owner}"), 1_000_000).await }
        });
        let claimed = futures::future::join_all(claims).await;
        let mut ids: Vec<String> = claimed.into_iter().flatten().map(|job| job.id).collect();
        ids.sort();
        assert_eq!(
            ids,
            [
                "ftjob-0", "ftjob-1", "ftjob-2", "ftjob-3", "ftjob-4", "ftjob-5"
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn events_written_at_once_have_places_without_a_gap() {
    on_each(async |store: &Store| {
        add(store, "ftjob-1").await;
        let held = fence(&claim(store, "a", 1_000_000).await.unwrap());
        let writes = (0..20).map(|index| {
            let (store, held) = (store.clone(), held.clone());
            async move {
                let told = event(&format!("event {index}"));
                let written = store.change_job(&held, &JobChange::default(), &told).await;
                assert_eq!(written.unwrap(), done("run"));
            }
        });
        futures::future::join_all(writes).await;
        assert_eq!(messages(store, "ftjob-1").await.len(), 22);
        let page = store.events_before("ftjob-1", Some(10), 3).await.unwrap();
        let places: Vec<i64> = page.iter().map(|event| event.seq).collect();
        assert_eq!(places, [9, 8, 7]);
    })
    .await;
}

#[tokio::test]
async fn jobs_and_files_are_listed_newest_first() {
    on_each(async |store: &Store| {
        for index in 1..=3 {
            add(store, &format!("ftjob-{index}")).await;
            let file = FileRow {
                id: format!("file-{index}"),
                name: "naïve ☂.jsonl".to_owned(),
                purpose: "fine-tune".to_owned(),
                kind: "prompts".to_owned(),
                bytes: 9,
                line_count: 2,
                blake3: (index > 1).then(|| "ab".repeat(32)),
                created_at: index,
            };
            store.add_file(&file).await.unwrap();
            assert_eq!(store.file(&file.id).await.unwrap(), Some(file));
        }
        let jobs = async |before| -> Vec<String> {
            let rows = store.jobs(before, 2).await.unwrap();
            rows.into_iter().map(|row| row.id).collect()
        };
        assert_eq!(jobs(None).await, ["ftjob-3", "ftjob-2"]);
        assert_eq!(jobs(Some("ftjob-2")).await, ["ftjob-1"]);
        let ids = |rows: Vec<FileRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        let page = store.files_before(Some("file-3"), "fine-tune", 9).await;
        assert_eq!(ids(page.unwrap()), ["file-2", "file-1"]);
        let page = store.files_after(None, "", 2).await;
        assert_eq!(ids(page.unwrap()), ["file-1", "file-2"]);
        assert!(
            store
                .files_after(None, "batch", 2)
                .await
                .unwrap()
                .is_empty()
        );
        let user = store.user_of_file("file-1").await.unwrap();
        assert_eq!(user.as_deref(), Some("ftjob-1"));
        assert!(store.delete_file("file-2").await.unwrap());
        assert!(!store.delete_file("file-2").await.unwrap());
    })
    .await;
}

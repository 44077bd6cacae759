//! Worker processes that die or sleep in the middle of a job.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use steersman::service::{JobInfo, JobStatus};

use super::bench::Bench;
use super::lifecycle::{outcome, undisturbed};

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn a_worker_that_is_killed_is_followed_by_one_that_ends_with_the_same_bits() {
    let bench = Bench::start().await;
    let more = json!({"steps": 24, "save_every": 3});
    let job = bench.mo_odpo(more.clone()).await;
    // each is killed at another place: just after a step, and a moment later, where it may be in
    // the middle of a step or of a state that it writes
    for (round, wanted) in [2, 7, 12, 17].into_iter().enumerate() {
        let mut worker = bench.worker(1);
        let far = |job: &JobInfo| job.step >= wanted || job.status.is_final();
        bench.until(&job.id, far).await;
        std::thread::sleep(Duration::from_micros(900 * round as u64));
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let mut worker = bench.worker(1);
    let done = bench.until(&job.id, |job| job.status.is_final()).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(done.status, JobStatus::Succeeded, "{:?}", done.error);
    assert!(done.attempt >= 2, "{}", done.attempt);
    assert!(outcome(&bench, &job.id) == undisturbed(more).await);
}

#[tokio::test]
async fn a_worker_that_sleeps_past_its_lease_writes_nothing_any_more() {
    let bench = Bench::start().await;
    let more = json!({"steps": 36, "save_every": 5});
    let job = bench.mo_odpo(more.clone()).await;
    let mut sleeper = bench.worker(1);
    bench.until(&job.id, |job| job.step >= 6).await;
    signal(&sleeper, "STOP");
    let mut other = bench.worker(1);
    let taken = bench
        .until(&job.id, |job| job.attempt == 2 && job.step >= 8)
        .await;
    signal(&sleeper, "CONT");
    let done = bench.until(&job.id, |job| job.status.is_final()).await;
    assert_eq!(
        done.status,
        JobStatus::Succeeded,
        "{:?} {:?}",
        done.error,
        taken
    );
    // it hears that its lease is lost, and looks for the next job
    let (events, _) = bench.app.next_job_events(&job.id, 0, 10_000).await.unwrap();
    let rows = bench.store.events_after(&job.id, 0, 10_000).await.unwrap();
    assert_eq!(events.len(), rows.len());
    let after = rows.iter().skip_while(|row| row.attempt < 2);
    assert!(after.clone().count() > 0);
    assert!(
        after.into_iter().all(|row| row.attempt == 2),
        "an old token was accepted"
    );
    for worker in [&mut sleeper, &mut other] {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    assert!(outcome(&bench, &job.id) == undisturbed(more).await);
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_saves_and_leaves_its_job() {
    let bench = Bench::start().await;
    let job = bench
        .mo_odpo(json!({"steps": 5000, "save_every": 1000}))
        .await;
    let mut worker = bench.worker(30);
    bench.until(&job.id, |job| job.step >= 2).await;
    signal(&worker, "TERM");
    let patience = Instant::now() + Duration::from_secs(600);
    let status = loop {
        if let Some(status) = worker.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < patience, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success(), "{status}");
    let left = bench.app.job(&job.id).await.unwrap();
    assert_eq!(left.status, JobStatus::Queued);
    let saved = bench
        .newest(&job.id)
        .join(format!("state/step-{:08}", left.step));
    assert!(saved.exists(), "{}", saved.display());
}

/// The process that took a job up last.
async fn worker_of(bench: &Bench, job: &str) -> u32 {
    let told = bench.messages(job).await;
    let taken = told
        .iter()
        .rev()
        .find(|line| line.contains(" takes the job "));
    let pid = taken.unwrap().split(' ').nth(1).unwrap();
    pid.parse().unwrap()
}

/// The status of a server's answer.
fn status(addr: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_server_starts_a_worker_for_its_jobs_and_outlives_it() {
    let bench = Bench::start().await;
    let model = crate::http::folder::with_policies();
    let mut server = Command::new(env!("CARGO_BIN_EXE_steersman"))
        .args([
            "serve",
            "--addr",
            "127.0.0.1:0",
            "--worker-threads",
            "1",
            "--data-dir",
        ])
        .arg(bench.data())
        .arg("--model")
        .arg(model.path())
        .env("STEERSMAN_LEASE_SECONDS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let addr = said.trim_end().rsplit_once("http://").unwrap().1.to_owned();

    let job = bench.mo_odpo(json!({"steps": 5000, "save_every": 2})).await;
    bench.until(&job.id, |job| job.step >= 3).await;
    let first = worker_of(&bench, &job.id).await;
    assert_ne!(first, server.id());
    let killed = Command::new("kill")
        .args(["-9", &first.to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(
        status(&addr),
        "200",
        "what happens to a worker does not reach the server"
    );
    bench
        .until(&job.id, |job| job.attempt >= 2 && job.step >= 6)
        .await;
    assert_ne!(
        worker_of(&bench, &job.id).await,
        first,
        "another one is started"
    );

    // the server dies: its worker saves and ends, and the job waits for the next
    server.kill().unwrap();
    server.wait().unwrap();
    let left = bench
        .until(&job.id, |job| job.status != JobStatus::Running)
        .await;
    assert_eq!(left.status, JobStatus::Queued);
    assert!(left.step < 5000, "{}", left.step);
}

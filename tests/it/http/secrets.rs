//! Nothing that a caller or an operator keeps to themselves comes out: not in the log, not in
//! metrics, not in what the server says when it fails. And each request has its line of log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use steersman::service::{NewKey, Scope, create_key};
use steersman::store::{Store, StoreSettings};

use super::client::Server;
use super::folder;

const CANARY: &str = "canary7f3a";

/// The command itself, in a folder of its own.
struct Process {
    child: Child,
    addr: String,
}

impl Process {
    fn start(model: &Path, data: &Path, log: &str) -> Self {
        let mut child = steersman()
            .args(["serve", "--addr", "127.0.0.1:0", "--log-format", "json"])
            .args(["--model", model.to_str().unwrap()])
            .args(["--data-dir", data.to_str().unwrap()])
            .args(["--log", log])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        let addr = said.trim_end().rsplit_once("http://").unwrap().1.to_owned();
        Self { child, addr }
    }

    /// Asks and reads to the end; status and everything that came.
    fn ask(&self, line: &str, fields: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let status = reply.split(' ').nth(1).and_then(|word| word.parse().ok());
        (status.unwrap_or_else(|| panic!("{reply}")), reply)
    }

    /// Ends it and returns its log.
    fn end(mut self) -> String {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        let mut log = String::new();
        let stderr = self.child.stderr.take().unwrap();
        BufReader::new(stderr).read_to_string(&mut log).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{log}");
        log
    }
}

fn steersman() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steersman"));
    command.env_remove("STEERSMAN_TEST_POSTGRES");
    command
}

/// A key of a new store in this folder.
async fn key(data: &Path) -> String {
    let settings = StoreSettings {
        data_dir: data.to_owned(),
        database_url: None,
    };
    let store = Store::open(&settings).await.unwrap();
    let new = NewKey {
        name: CANARY.to_owned(),
        scopes: vec![Scope::Admin],
        ..NewKey::default()
    };
    let (secret, _) = create_key(&store, new).await.unwrap();
    store.close().await;
    secret.reveal().to_owned()
}

#[tokio::test]
async fn no_secret_is_in_the_log_or_the_metrics() {
    let (model, data) = (folder::with_policies(), tempfile::tempdir().unwrap());
    let secret = key(data.path()).await;
    // more than anybody logs in production, from every library
    let server = Process::start(model.path(), data.path(), "debug,steersman=trace");
    let auth = format!("authorization: Bearer {secret}\r\n");
    let weights = format!("{auth}x-objective-weights: {CANARY}=1\r\n");
    let prompt = format!("My password is {CANARY}");
    let stream = json!({"prompt": prompt, "stream": true, "max_tokens": 4, "user": CANARY});
    let chat = json!({"messages": [{"role": "user", "content": prompt}], "max_tokens": 3});
    let odd = json!({"prompt": prompt, CANARY: CANARY});
    let profile = json!({"objective_weights": {"helpfulness": 1}, "description": CANARY});
    let comparison = json!({
        "prompt": prompt, "chosen": CANARY, "rejected": CANARY,
        "rewards_chosen": {"helpfulness": 1, "harmlessness": 0},
        "rewards_rejected": {"helpfulness": 0, "harmlessness": 1},
    });
    let id = format!("{CANARY}-profile");
    for (line, fields, body) in [
        ("POST /v1/generate".to_owned(), &auth, stream.to_string()),
        (
            "POST /v1/chat/completions".to_owned(),
            &auth,
            chat.to_string(),
        ),
        ("POST /v1/generate".to_owned(), &auth, odd.to_string()),
        ("POST /v1/generate".to_owned(), &weights, chat.to_string()),
        (
            "POST /v1/generate".to_owned(),
            &auth,
            format!("{{\"{CANARY}"),
        ),
        (
            "POST /v1/tokenize".to_owned(),
            &auth,
            json!({"prompt": prompt}).to_string(),
        ),
        (format!("PUT /v1/profiles/{id}"), &auth, profile.to_string()),
        (
            format!("POST /v1/profiles/{id}/comparisons"),
            &auth,
            comparison.to_string(),
        ),
        (
            format!("GET /v1/models/{CANARY}?q={CANARY}"),
            &auth,
            String::new(),
        ),
        (format!("GET /{CANARY}"), &auth, String::new()),
        (format!("{CANARY} /"), &auth, String::new()),
        (format!("not http {CANARY}"), &auth, String::new()),
        (
            "GET /v1/models".to_owned(),
            &format!("authorization: Bearer {CANARY}\r\n"),
            String::new(),
        ),
    ] {
        let (status, reply) = server.ask(&line, fields, &body);
        assert!(status < 500, "{line}: {reply}");
        assert!(!reply.contains(&secret), "{line}: {reply}");
    }
    let (status, metrics) = server.ask("GET /metrics", &auth, "");
    assert_eq!(status, 200);
    let log = server.end();
    let digits = secret.trim_start_matches("sk-steer-");
    for (what, text) in [("log", &log), ("metrics", &metrics)] {
        for word in [CANARY, digits] {
            let line = text.lines().find(|line| line.contains(word));
            assert!(line.is_none(), "{word} is in the {what}: {line:?}");
        }
    }
    assert!(
        log.lines()
            .filter(|line| line.contains("\"answered\""))
            .count()
            >= 12,
        "{log}"
    );
}

#[tokio::test]
async fn each_request_has_one_line_of_log_under_its_id() {
    let (model, data) = (folder::with_policies(), tempfile::tempdir().unwrap());
    let server = Process::start(model.path(), data.path(), "info");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let fields =
        |id: &str| format!("x-request-id: {id}\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    let body = |stream: bool| {
        json!({"prompt": "Hello", "max_tokens": 4, "ignore_eos": true, "stream": stream})
            .to_string()
    };
    let (_, reply) = server.ask("POST /v1/generate", &fields("whole-1"), &body(false));
    assert!(reply.contains("x-request-id: whole-1\r\n"), "{reply}");
    let version = reply.split("x-policy-version: ").nth(1).unwrap();
    let version = version.split("\r\n").next().unwrap().to_owned();
    server.ask("POST /v1/generate", &fields("stream-1"), &body(true));
    let (_, reply) = server.ask("GET /nowhere", &fields("lost-1"), "");
    assert!(reply.contains("x-request-id: lost-1\r\n"), "{reply}");
    let (_, reply) = server.ask("GET /healthz", &fields(&"x".repeat(129)), "");
    assert!(!reply.contains("xxx"), "{reply}");
    let log = server.end();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let of = |id: &str| {
        let mine: Vec<_> = lines
            .iter()
            .filter(|line| line["span"]["id"] == id)
            .collect();
        let [line] = mine.as_slice() else {
            panic!("{} lines of {id}: {log}", mine.len());
        };
        (*line).clone()
    };
    for id in ["whole-1", "stream-1"] {
        let line = of(id);
        assert_eq!(line["message"], "answered");
        assert_eq!(line["route"], "/v1/generate");
        assert_eq!(
            (&line["status"], &line["method"]),
            (&json!(200), &json!("POST"))
        );
        assert_eq!(line["completion_tokens"], 4, "{line}");
        assert!(line["prompt_tokens"].as_u64().unwrap() > 0, "{line}");
        assert_eq!(line["policy_version"], version.as_str());
        assert_eq!(
            (&line["complete"], &line["span"]["trace"]),
            (&json!(true), &json!(trace))
        );
        assert!(line["ms"].is_u64() && line["head_ms"].as_u64() <= line["ms"].as_u64());
    }
    let lost = of("lost-1");
    assert_eq!(
        (&lost["route"], &lost["error"]),
        (&json!("none"), &json!("route_not_found"))
    );
}

#[tokio::test]
async fn what_fails_does_not_tell_where_the_state_lies() {
    let dir = tempfile::Builder::new().prefix(CANARY).tempdir().unwrap();
    let settings = StoreSettings {
        data_dir: dir.path().to_owned(),
        database_url: None,
    };
    let store = Store::open(&settings).await.unwrap();
    let server = Server::with_store(store.clone());
    store.close().await;
    for path in ["/v1/profiles", "/v1/models", "/v1/profiles/x"] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 503, "{path}: {}", reply.text);
        assert_eq!(reply.json()["error"]["code"], "store_unavailable");
        let told = format!("{} {:?}", reply.text, reply.headers);
        assert!(!told.contains(CANARY) && !told.contains("sqlite"), "{told}");
    }
}

#[test]
fn a_database_that_cannot_be_reached_is_told_without_its_password() {
    let url = format!("postgres://ada:{CANARY}@127.0.0.1:1/app");
    let model = folder::with_policies();
    let output = steersman()
        .args(["serve", "--addr", "127.0.0.1:0", "--log", "debug"])
        .args(["--model", model.path().to_str().unwrap()])
        .env("STEERSMAN_DATABASE_URL", &url)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = steersman()
        .args(["serve", "--print-config"])
        .env("STEERSMAN_DATABASE_URL", &url)
        .output()
        .unwrap();
    assert!(printed.status.success());
    let help = steersman()
        .args(["serve", "--help"])
        .env("STEERSMAN_DATABASE_URL", &url)
        .output()
        .unwrap();
    for output in [output, printed, help] {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains(CANARY), "{said}");
    }
}

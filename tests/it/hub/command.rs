//! The whole program, told a model's name.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::Method;

use super::repository;
use super::stand_in::{COMMIT, StandIn, Trick};

/// The program with a home of its own, and with nothing of whoever runs the tests.
fn steersman(home: &Path, endpoint: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steersman"));
    for name in [
        "HF_TOKEN",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "HF_TOKEN_PATH",
    ] {
        command.env_remove(name);
    }
    command
        .args(args)
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", endpoint)
        .env("STEERSMAN_ADDR", "127.0.0.1:0")
        .env("STEERSMAN_DATA_DIR", home.join("data"))
        .env("STEERSMAN_FINE_TUNING", "off")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a command says on both of its outputs.
fn output(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Waits for the line that says where a server is ready.
fn ready(server: &mut Child) -> String {
    let mut line = String::new();
    let out = server.stdout.as_mut().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    let (_, addr) = line.trim_end().rsplit_once("http://").unwrap();
    addr.to_owned()
}

fn get(addr: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn terminate(child: &Child) {
    let ended = Command::new("kill").arg(child.id().to_string()).status();
    assert!(ended.unwrap().success());
}

#[test]
fn a_model_is_served_by_its_name_and_again_without_the_hub() {
    let hub = StandIn::start(repository("qwen2"));
    let home = tempfile::tempdir().unwrap();
    let args = ["serve", "--model", "org/tiny"];
    for round in 0..2 {
        let mut command = steersman(home.path(), &hub.url, &args);
        if round == 1 {
            command.env("HF_HUB_OFFLINE", "1");
        }
        let mut server = command.spawn().unwrap();
        let addr = ready(&mut server);
        let models = get(&addr, "/v1/models");
        assert!(models.contains(r#""id":"tiny""#), "{models}");
        terminate(&server);
        assert!(server.wait().unwrap().success());
        let mut log = String::new();
        server.stderr.unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(log.contains("fetched org/tiny"), round == 0, "{log}");
    }
    assert!(hub.seen().len() > 10);

    let args = ["inspect", "org/tiny"];
    let (is_servable, facts, _) = output(&mut steersman(home.path(), &hub.url, &args));
    assert!(
        is_servable && facts.contains("model `tiny`") && facts.contains(COMMIT),
        "{facts}"
    );
    assert_eq!(hub.seen().len(), 1, "it is here");

    let args = [
        "generate",
        "Hi",
        "--model",
        "org/tiny",
        "--max-tokens",
        "4",
        "--seed",
        "1",
    ];
    let by_name = output(&mut steersman(home.path(), &hub.url, &args));
    let folder = crate::fixtures::fixture("qwen2");
    let args = [
        "generate",
        "Hi",
        "--model",
        folder.to_str().unwrap(),
        "--max-tokens",
        "4",
        "--seed",
        "1",
    ];
    let by_path = output(&mut steersman(home.path(), &hub.url, &args));
    assert!(by_name.0, "{}", by_name.2);
    assert_eq!(by_name.1, by_path.1);
}

#[test]
fn a_gguf_file_of_a_hub_has_its_own_name() {
    let bytes = std::fs::read(crate::fixtures::fixture("gguf").join("blocks.gguf")).unwrap();
    let hub = StandIn::start([("small/tiny-q8_0.gguf".to_owned(), bytes)]);
    let home = tempfile::tempdir().unwrap();
    let args = ["inspect", "org/tiny:Q8_0"];
    let (_, facts, errors) = output(&mut steersman(home.path(), &hub.url, &args));
    let all = format!("{facts}{errors}");
    assert!(
        all.contains("tiny-q8_0.gguf") && !all.contains("blobs"),
        "{all}"
    );
}

#[test]
fn a_server_that_fetches_ends_at_once_when_it_is_told_to() {
    let hub = StandIn::start(repository("qwen2"));
    hub.trick(Method::GET, "model.safetensors", Trick::Stall(50_000));
    let home = tempfile::tempdir().unwrap();
    let args = ["serve", "--model", "org/tiny"];
    let mut server = steersman(home.path(), &hub.url, &args).spawn().unwrap();
    let blobs = home.path().join("hub/models--org--tiny/blobs");
    let is_half = || {
        let entries = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
        let mut parts = entries.filter(|it| it.path().extension().is_some());
        parts.any(|it| it.metadata().is_ok_and(|found| found.len() == 50_000))
    };
    let begun = Instant::now();
    while !is_half() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it fetches nothing"
        );
        std::thread::yield_now();
    }
    terminate(&server);
    let told = Instant::now();
    assert!(server.wait().unwrap().success());
    assert!(
        told.elapsed() < Duration::from_secs(10),
        "{:?}",
        told.elapsed()
    );
    let args = ["inspect", "org/tiny"];
    let (is_servable, facts, errors) = output(&mut steersman(home.path(), &hub.url, &args));
    assert!(is_servable, "{facts}{errors}");
    let mut seen = hub.seen().into_iter();
    assert!(seen.any(|it| it.range.as_deref() == Some("bytes=50000-")));
}

#[test]
fn a_folder_wins_and_what_is_neither_is_told_so() {
    let hub = StandIn::start([]);
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = steersman(home.path(), &hub.url, args);
        output(command.current_dir(crate::fixtures::fixture("").join("..")))
    };
    let (is_servable, facts, _) = run(&["inspect", "fixtures/qwen2"]);
    assert!(is_servable && facts.contains("model `qwen2`"), "{facts}");
    assert!(hub.seen().is_empty(), "what is here is not asked for");
    let (done, _, error) = run(&["generate", "Hi", "--model", "fixtures/qwen"]);
    assert!(
        !done && error.contains("`fixtures/qwen` is no folder here"),
        "{error}"
    );
    assert!(error.contains("shows no such model"), "{error}");
    assert_eq!(hub.seen().len(), 1);
    let (done, _, error) = run(&["generate", "Hi", "--model", "models/demo"]);
    assert!(
        !done && error.contains("models/demo is not a folder"),
        "{error}"
    );
    assert!(hub.seen().is_empty(), "the default is no name of a hub");
}

#[test]
fn a_job_trains_from_a_model_of_the_hub() {
    let hub = StandIn::start(repository("qwen2"));
    let home = tempfile::tempdir().unwrap();
    let texts = home.path().join("texts.jsonl");
    std::fs::write(&texts, "{\"text\": \"a river runs\"}\n".repeat(8)).unwrap();
    let job = home.path().join("job.toml");
    let text = format!(
        "batch_tokens = 64\nmicro_batch_tokens = 64\n[job]\nkind = \"supervised\"\n\
         model = \"org/tiny\"\noutput = {:?}\nsteps = 1\n[data]\nmax_tokens = 32\n\
         [[data.train]]\npath = {texts:?}\n",
        home.path().join("out")
    );
    std::fs::write(&job, text).unwrap();
    let args = ["train", "--config", job.to_str().unwrap()];
    let (done, _, errors) = output(&mut steersman(home.path(), &hub.url, &args));
    assert!(done && errors.contains("fetched org/tiny"), "{errors}");
}

//! The command itself: what it prints, what it refuses, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::folder;
use crate::fixtures::fixture;

/// State that no test writes to.
const DATA_DIR: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/command-data");

pub(super) fn steersman(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steersman"));
    command
        .args(args)
        .env("STEERSMAN_ADDR", "127.0.0.1:0")
        .env("STEERSMAN_DATA_DIR", DATA_DIR)
        .env_remove("STEERSMAN_TEST_POSTGRES");
    command
}

/// Runs a command that must fail with exit code 1 and a sentence that has these words.
pub(super) fn check_refused(args: &[&str], words: &[&str]) {
    let Output {
        status,
        stdout,
        stderr,
    } = steersman(args).output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    assert_eq!(status.code(), Some(1), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?}: `{word}` is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{args:?}: {said}");
}

/// Both `serve` and `inspect` must refuse the folder in the same words.
pub(super) fn check_unservable(dir: &Path, words: &[&str]) {
    let dir = dir.to_str().unwrap();
    check_refused(&["serve", "--model", dir], words);
    check_refused(&["inspect", dir], words);
}

#[test]
fn folders_that_cannot_be_served_are_refused_in_a_sentence() {
    check_unservable(
        Path::new("/no/such/folder"),
        &["/no/such/folder is not a folder"],
    );
    let dir = folder::base();
    let weights = dir.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let check = |bytes: &[u8], words: &[&str]| {
        std::fs::write(&weights, bytes).unwrap();
        check_unservable(dir.path(), &[&["model.safetensors"][..], words].concat());
    };
    let half = &whole[..whole.len() / 2];
    check(half, &["not a whole safetensors file", "download it again"]);
    check(&whole[..4], &["4 bytes are too few", "download it again"]);
    check(&[255; 64], &["header of", "no safetensors file"]);
    check(b"PK\x03\x04 archive", &["pickle", "arbitrary code"]);
    check(b"\x80\x02}q\x00X\x05\x00\x00\x00", &["pickle", "convert"]);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    check(pointer, &["pointer of Git LFS", "git lfs pull"]);
    std::fs::remove_file(&weights).unwrap();
    check_unservable(dir.path(), &["holds no weights", "model.safetensors"]);
    std::fs::write(dir.path().join("pytorch_model.bin"), "x").unwrap();
    check_unservable(dir.path(), &["pickle", "pytorch_model.bin", "safetensors"]);
}

#[test]
fn folders_whose_small_files_are_wrong_are_refused_in_a_sentence() {
    let check = |file: &str, content: Option<&str>, words: &[&str]| {
        let dir = folder::with_policies();
        let path = dir.path().join(file);
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        check_unservable(dir.path(), words);
    };
    check("config.json", None, &["config.json", "No such file"]);
    check("config.json", Some("{"), &["config.json", "EOF"]);
    check("config.json", Some("{}"), &["config.json", "model_type"]);
    check("tokenizer.json", None, &["tokenizer.json"]);
    check("tokenizer.json", Some("[]"), &["tokenizer.json"]);
    let manifest = "policies/kind/steering.json";
    check(manifest, Some("{"), &["steering.json", "EOF"]);
    check(manifest, Some("{}"), &["steering.json", "missing field"]);
    check("policies.json", Some("{}"), &["policies.json", "default"]);
    let adapter = "policies/plain/adapter_model.safetensors";
    check(
        adapter,
        None,
        &["adapter_model.safetensors", "No such file"],
    );
    check(
        adapter,
        Some("half"),
        &["adapter_model.safetensors", "too few"],
    );
}

#[test]
fn a_shard_that_is_missing_and_an_adapter_that_is_a_pickle_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let shard = "model-00002-of-00004.safetensors";
    let parts = [1, 3, 4].map(|part| format!("model-0000{part}-of-00004.safetensors"));
    let mut files = vec!["config.json", "tokenizer.json", "tokenizer_config.json"];
    files.push("model.safetensors.index.json");
    files.extend(parts.iter().map(String::as_str));
    folder::copy_files(&crate::fixtures::fixture("gemma"), dir.path(), &files);
    check_unservable(dir.path(), &[shard, "No such file"]);

    let dir = folder::with_policies();
    let policy = dir.path().join("policies/plain");
    std::fs::remove_file(policy.join("adapter_model.safetensors")).unwrap();
    std::fs::write(policy.join("adapter_model.bin"), "x").unwrap();
    check_unservable(dir.path(), &["adapter_model.bin", "pickle", "safetensors"]);
}

#[test]
fn manifests_that_do_not_fit_are_refused_in_a_sentence() {
    let check = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let dir = folder::with_policies();
        let mut manifest = folder::manifest();
        change(&mut manifest);
        folder::write(&dir.path().join("policies/kind/steering.json"), &manifest);
        check_unservable(dir.path(), words);
    };
    check(
        &|m| m["conditioning"]["open"] = json!("<|weights|>"),
        &["<|weights|>", "special token"],
    );
    check(
        &|m| m["conditioning"]["template"] = json!("help {helpfulness}"),
        &["harmlessness"],
    );
    check(&|m| m["objectives"] = json!([]), &["objectives"]);
    check(&|m| m["mood"] = json!("good"), &["mood"]);
    check(
        &|m| m["format_version"] = json!(9),
        &["format_version", "expected 1"],
    );
    let other = json!({"name": "other", "hash": "00ff"});
    check(
        &|m| m["base"] = other.clone(),
        &["`other`", "00ff", "trained"],
    );
}

#[test]
fn adapters_that_do_not_fit_are_refused_in_a_sentence() {
    let dir = folder::with_policies();
    let policy = dir.path().join("policies/plain");
    let other = crate::fixtures::fixture("phi3").join("adapter");
    let files = ["adapter_config.json", "adapter_model.safetensors"];
    folder::copy_files(&other, &policy, &files);
    check_unservable(dir.path(), &["policies/plain"]);
}

#[test]
fn settings_that_cannot_be_used_are_refused_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("steersman.toml");
    std::fs::write(&file, "max_sequenzes = 3\n").unwrap();
    check_refused(
        &["serve", "--config", file.to_str().unwrap()],
        &["max_sequenzes", "steersman.toml"],
    );
    check_refused(
        &["serve", "--max-connections", "0"],
        &["max_connections", "at least 1"],
    );
    check_refused(
        &["serve", "--addr", "0.0.0.0:0"],
        &["0.0.0.0:0", "loopback", "key"],
    );
    // a build without traces says how to get them, one with them what an address looks like
    let words = match cfg!(feature = "otel") {
        true => ["`nowhere`", "http://HOST:4318"],
        false => ["--otlp-endpoint", "--features otel"],
    };
    check_refused(&["serve", "--otlp-endpoint", "nowhere"], &words);
}

#[test]
fn a_variable_that_is_no_setting_is_refused_unless_it_is_of_others() {
    let run = |variable: &str| {
        let mut command = steersman(&["serve", "--print-config"]);
        command.env(variable, "tcp://10.0.0.1:80").output().unwrap()
    };
    let refused = run("STEERSMAN_MAX_SEQUENZES");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`STEERSMAN_MAX_SEQUENZES`"));
    for linked in [
        "STEERSMAN_SERVICE_HOST",
        "STEERSMAN_PORT",
        "STEERSMAN_PORT_80_TCP",
        "STEERSMAN_REWARD_KEY",
        "STEERSMAN_REWARD_KEY_JUDGE",
    ] {
        assert!(run(linked).status.success(), "{linked}");
    }
}

#[test]
fn the_settings_in_effect_are_printed_with_their_sources() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("steersman.toml");
    std::fs::write(&file, "max_body_bytes = 4096\nmax_sequences = 3\n").unwrap();
    let output = steersman(&["serve", "--print-config", "--max-sequences", "5"])
        .args(["--config", file.to_str().unwrap()])
        .env("STEERSMAN_SEND_TIMEOUT_SECONDS", "7")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for line in [
        format!("max_body_bytes = 4096  # file {}", file.display()),
        "max_sequences = 5  # flag --max-sequences".to_owned(),
        "send_timeout_seconds = 7  # environment STEERSMAN_SEND_TIMEOUT_SECONDS".to_owned(),
        "header_timeout_seconds = 10  # default".to_owned(),
    ] {
        assert!(said.lines().any(|it| it == line), "{line} is not in {said}");
    }
    // what is printed is a settings file
    std::fs::write(&file, &said).unwrap();
    let again = steersman(&[
        "serve",
        "--print-config",
        "--config",
        file.to_str().unwrap(),
    ]);
    let mut again = again;
    assert!(again.output().unwrap().status.success());
}

#[test]
fn a_bench_that_cannot_start_is_refused_in_a_sentence() {
    let url = "127.0.0.1:8080";
    check_refused(&["bench", "--url", url], &[url, "http://HOST:PORT"]);
    let crowd = [
        "bench",
        "--url",
        "http://127.0.0.1:1",
        "--concurrency",
        "9",
        "--requests",
        "8",
    ];
    check_refused(&crowd, &["--requests", "8", "9"]);
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let output = steersman(&["serve", "--modle", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--model"));
}

#[test]
fn inspect_says_what_a_folder_is() {
    let dir = folder::with_policies();
    let output = steersman(&["inspect", dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    for words in [
        "Llama",
        "context 128",
        "`kind`",
        "the default",
        "`helpfulness`",
        "can be served",
    ] {
        assert!(said.contains(words), "`{words}` is not in: {said}");
    }
}

#[test]
fn inspect_says_what_a_reward_model_is() {
    let dir = fixture("rm_llama");
    let output = steersman(&["inspect", dir.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    for words in [
        "LlamaForSequenceClassification",
        "a head of",
        "reads: the dialogue",
        "cannot be served",
        "scores answers and writes none",
        "kind = \"classifier\"",
    ] {
        assert!(said.contains(words), "`{words}` is not in: {said}");
    }
}

#[test]
fn generate_repeats_itself_with_a_seed() {
    let dir = folder::with_policies();
    let model = dir.path().to_str().unwrap();
    let run = |weights: &str| {
        let args = [
            "generate",
            "Hello there",
            "--model",
            model,
            "--weights",
            weights,
        ];
        let limits = ["--max-tokens", "12", "--seed", "5", "--temperature", "0"];
        let output = steersman(&args).args(limits).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let one = run("helpfulness=1,harmlessness=0");
    assert!(one.len() > 1);
    assert_eq!(one, run("helpfulness=1"));
    assert_ne!(one, run("harmlessness=1"));
    check_refused(
        &["generate", "x", "--model", model, "--weights", "kindness=1"],
        &["kindness", "helpfulness"],
    );
    check_refused(
        &["generate", "x", "--model", model, "--weights", "0.5"],
        &["NAME=NUMBER"],
    );
}

#[test]
fn generate_refuses_what_the_server_refuses() {
    let dir = folder::with_policies();
    let model = dir.path().to_str().unwrap();
    let check = |prompt: &str, more: &[&str], words: &[&str]| {
        check_refused(
            &[&["generate", prompt, "--model", model][..], more].concat(),
            words,
        );
    };
    let weights = |weights: &str, words: &[&str]| check("x", &["--weights", weights], words);
    weights("helpfulness=NaN", &["`helpfulness` is NaN", "finite"]);
    weights("helpfulness=1e39", &["`helpfulness`", "expected"]);
    weights("helpfulness=-1", &["`helpfulness` is -1", "expected"]);
    weights(
        "helpfulness=0,harmlessness=0",
        &["all zero", "at least one"],
    );
    check("", &[], &["`prompt`", "empty"]);
    check(&"word ".repeat(400), &[], &["128 tokens"]);
    check("x", &["--max-tokens", "4000"], &["128 tokens"]);
    check("x", &["--policy", "other"], &["`other`", "`kind`"]);
    check(
        "x",
        &["--temperature", "3"],
        &["`temperature`", "between 0 and 2"],
    );
}

#[test]
fn numbers_that_are_not_built_are_a_usage_error_that_names_those_that_are() {
    for command in ["serve", "generate", "evaluate"] {
        let output = steersman(&[command, "--dtype", "q5_1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = String::from_utf8_lossy(&output.stderr);
        for words in ["`q5_1` is not built", "`f32`", "`bf16`", "`q8_0`"] {
            assert!(said.contains(words), "{command}: {said}");
        }
    }
}

#[test]
fn keys_are_made_shown_once_listed_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = steersman(&["keys"]);
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .args(args)
            .env("STEERSMAN_DATA_DIR", dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8(stdout).unwrap();
        assert!(
            status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&stderr)
        );
        (said, String::from_utf8(stderr).unwrap())
    };
    let made = [
        "create",
        "--name",
        "the app",
        "--scope",
        "generate,profiles",
        "--default-profile",
        "calm",
        "--weight-range",
        "harmlessness=0.2..1",
        "--requests-per-minute",
        "60",
        "--expires-in-days",
        "30",
    ];
    let (secret, said) = run(&made);
    let digits = secret.trim_end().strip_prefix("sk-steer-").unwrap();
    assert!(digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit()));
    assert!(!said.contains(digits) && said.contains("key_"), "{said}");
    assert_ne!(run(&made).0, secret);
    let (list, _) = run(&["list"]);
    assert_eq!(list.lines().count(), 2);
    for words in [
        "name=the app",
        "scopes=generate,profiles",
        "default-profile=calm",
        "harmlessness=0.2..1",
        "requests-per-minute=60",
        "expires=",
    ] {
        assert!(list.contains(words), "`{words}` is not in: {list}");
    }
    assert!(
        !list.contains(digits) && !list.contains("revoked="),
        "{list}"
    );
    // nor does the database hold it
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(digits));
    }
    let id = list.split('\t').next().unwrap();
    run(&["revoke", id]);
    assert!(
        run(&["list"])
            .0
            .lines()
            .next()
            .unwrap()
            .contains("revoked=")
    );
}

#[test]
fn keys_that_cannot_be_are_refused_in_a_sentence() {
    let create = |flag: &str, value: &str, words: &[&str]| {
        check_refused(&["keys", "create", "--name", "x", flag, value], words);
    };
    create("--scope", "root", &["`root`", "admin"]);
    create("--weight-range", "a=2..3", &["`a=2..3`", "LEAST"]);
    create("--database-url", "mysql://x", &["postgres://"]);
    let data = tempfile::tempdir().unwrap();
    let wrong = data.path().join("wrong");
    let wrong = wrong.to_str().unwrap();
    check_refused(
        &["keys", "list", "--data-dir", wrong],
        &["wrong", "--data-dir"],
    );
    assert!(!data.path().join("wrong").exists());
    let data = data.path().to_str().unwrap();
    let mut made = steersman(&["keys", "create", "--name", "x", "--data-dir", data]);
    assert!(made.output().unwrap().status.success());
    check_refused(
        &["keys", "revoke", "key_0", "--data-dir", data],
        &["`key_0`", "list"],
    );
}

#[test]
fn with_keys_serve_may_listen_where_others_reach_it() {
    let (model, data) = (folder::with_policies(), tempfile::tempdir().unwrap());
    let data = data.path().to_str().unwrap();
    let mut made = steersman(&["keys", "create", "--name", "x", "--data-dir", data]);
    let secret = String::from_utf8(made.output().unwrap().stdout).unwrap();
    let model = model.path().to_str().unwrap();
    let args = [
        "serve",
        "--model",
        model,
        "--data-dir",
        data,
        "--addr",
        "0.0.0.0:0",
    ];
    let mut server = steersman(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let port = said.trim_end().rsplit_once(':').unwrap().1.to_owned();
    let status = |authorization: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n{authorization}connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.split(' ').nth(1).unwrap().to_owned()
    };
    let answered = [
        status(""),
        status("authorization: Bearer sk-steer-0\r\n"),
        status(&format!("authorization: Bearer {}\r\n", secret.trim_end())),
    ];
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(answered, ["401", "401", "200"]);
}

#[test]
fn serve_announces_itself_answers_and_ends_on_sigterm() {
    let dir = folder::with_policies();
    let mut server = steersman(&["serve", "--model", dir.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let ready = format!("steersman {} ready on http://", env!("CARGO_PKG_VERSION"));
    let addr = said
        .trim_end()
        .strip_prefix(&ready)
        .unwrap_or_else(|| panic!("{said}"))
        .to_owned();

    let mut stream = TcpStream::connect(&addr).unwrap();
    let request = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
    let health = |addr: &str| steersman(&["health", "--addr", addr]).output().unwrap();
    let well = health(&addr);
    assert!(well.status.success());
    assert_eq!(
        String::from_utf8_lossy(&well.stdout),
        "{\"status\":\"ready\"}\n"
    );

    Command::new("kill")
        .args(["-TERM", &server.id().to_string()])
        .status()
        .unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(&addr).is_err());
    check_refused(&["health", "--addr", &addr], &[&addr, "no server answers"]);
    check_refused(
        &["health", "--url", "https://x"],
        &["`https://x`", "http://HOST:PORT"],
    );
}

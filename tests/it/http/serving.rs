//! The command `serve` as a process: what a starting server says, and which listener has what.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use super::command::steersman;
use super::folder;

/// A server in a process of its own, over the folder with two policies.
struct Process {
    child: Child,
    lines: Vec<String>,
    _model: tempfile::TempDir,
    data: tempfile::TempDir,
}

impl Process {
    /// Starts it and reads so many lines of what it says.
    fn start(more: &[&str], lines: usize) -> Self {
        let (model, data) = (folder::with_policies(), tempfile::tempdir().unwrap());
        let mut child = steersman(&["serve", "--model"])
            .arg(model.path())
            .arg("--data-dir")
            .arg(data.path())
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = said.take(lines).map(Result::unwrap).collect();
        Self {
            child,
            lines,
            _model: model,
            data,
        }
    }

    /// The status of a GET of the listener whose line begins so.
    fn status(&self, line: &str, path: &str) -> String {
        let found = self.lines.iter().find(|it| it.starts_with(line));
        let url = found.unwrap_or_else(|| panic!("{line} is not in {:?}", self.lines));
        let addr = url.split_once("http://").unwrap().1;
        let addr = addr.split('/').next().unwrap();
        let mut stream = TcpStream::connect(addr).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.split(' ').nth(1).unwrap().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_without_keys_says_who_reaches_it_and_where_its_data_lie() {
    let server = Process::start(&[], 3);
    let [ready, loopback, data] = &server.lines[..] else {
        panic!("{:?}", server.lines);
    };
    assert!(ready.contains(" ready on http://127.0.0.1:"), "{ready}");
    assert!(loopback.contains("loopback only"), "{loopback}");
    let folder = server.data.path().display().to_string();
    assert!(data.ends_with(&folder), "{data}");
}

#[test]
fn admin_routes_with_an_address_are_there_alone_without_training_jobs_too() {
    for mode in ["off", "remote"] {
        let more = ["--fine-tuning", mode, "--admin-addr", "127.0.0.1:0"];
        let server = Process::start(&more, 2);
        let policies = "/admin/v1/policies";
        assert_eq!(server.status("steersman ", policies), "404", "{mode}");
        assert_eq!(server.status("admin routes ", policies), "200", "{mode}");
        assert_eq!(
            server.status("admin routes ", "/v1/models"),
            "404",
            "{mode}"
        );
    }
}

#[test]
fn flags_of_serve_need_no_subcommand() {
    let output = steersman(&["--max-sequences", "5", "--print-config"]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("max_sequences = 5  # flag --max-sequences"),
        "{said}"
    );
    let help = steersman(&["--help"]).output().unwrap();
    let said = String::from_utf8_lossy(&help.stdout);
    assert!(
        said.contains("evaluate") && said.contains("serve"),
        "{said}"
    );
}

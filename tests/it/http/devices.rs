//! What computes, as it is asked of the program: what is no device, and what its build has not.

use super::command::steersman;
#[cfg(not(feature = "cuda"))]
use super::{command::check_refused, folder};

/// A settings file with this device.
fn file(device: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("device = \"{device}\"\n")).unwrap();
    file
}

#[test]
fn what_is_no_device_is_refused_with_those_there_are() {
    let file = file("nonsense");
    let config = ["--config", file.path().to_str().unwrap()];
    let flag = ["--device", "nonsense"];
    for (args, variable, status) in [
        ([&["serve"], &flag[..]].concat(), None, 2),
        ([&["generate", "x"], &flag[..]].concat(), None, 2),
        (vec!["serve"], Some("nonsense"), 2),
        (vec!["generate", "x"], Some("nonsense"), 2),
        ([&["serve"], &config[..]].concat(), None, 1),
    ] {
        let mut command = steersman(&args);
        command.envs(variable.map(|device| ("STEERSMAN_DEVICE", device)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        for words in [
            "`nonsense` is no device",
            "`cpu`",
            "`cuda`",
            "`cuda:N`",
            "`auto`",
        ] {
            assert!(said.contains(words), "{args:?}: {said}");
        }
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn without_cuda_in_it_the_program_refuses_a_gpu_and_says_how_to_have_one() {
    let dir = folder::with_policies();
    let model = ["--model", dir.path().to_str().unwrap()];
    let words = [
        "built without CUDA",
        "`--device cuda`",
        "--features cuda",
        "leave --device out",
    ];
    for device in ["cuda", "cuda:1"] {
        let asked = ["--device", device];
        check_refused(&[&["serve"], &model[..], &asked].concat(), &words);
        check_refused(&[&["generate", "x"], &model[..], &asked].concat(), &words);
    }
    let file = file("cuda");
    let config = ["--config", file.path().to_str().unwrap()];
    check_refused(&[&["serve"], &model[..], &config].concat(), &words);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn auto_takes_the_processor_and_says_so() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let dir = folder::with_policies();
    let model = ["--model", dir.path().to_str().unwrap()];
    let answer = |device| {
        let asked = ["--device", device, "--max-tokens", "8", "--temperature"];
        let output = steersman(&[&["generate", "Hello"], &model[..], &asked, &["0"]].concat())
            .output()
            .unwrap();
        assert!(output.status.success(), "{device}");
        output.stdout
    };
    assert_eq!(answer("auto"), answer("cpu"));

    let mut server = steersman(&[&["serve", "--device", "auto"], &model[..]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let told: Vec<String> = BufReader::new(server.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.contains("model loaded"))
        .collect();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(
        told.iter()
            .any(|line| line.contains("built without CUDA: the base is on the processor")),
        "{told:?}"
    );
}

//! The program itself on a device, and without one.

use std::path::Path;
use std::process::{Command, Output};

use super::device::{device, folder};

/// `steersman generate` over the demo's model.
fn generate(driver: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_steersman"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("LD_LIBRARY_PATH", driver)
        .args([
            "generate",
            "What is a lighthouse?",
            "--max-tokens",
            "4",
            "--temperature",
            "0",
        ])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_program_answers_from_a_device_what_it_answers_from_the_processor() {
    let _device = device();
    let answers: Vec<String> = ["cpu", "cuda", "auto"]
        .map(|device| {
            let output = generate(&folder(), &["--device", device]);
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        })
        .into();
    assert!(!answers[0].trim().is_empty());
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1], answers[2]);
}

#[test]
fn what_a_device_cannot_do_is_refused_in_a_sentence() {
    let _device = device();
    for (arguments, words) in [
        (
            ["--device", "cuda:7", "--dtype", "auto"],
            "no CUDA device 7",
        ),
        (
            ["--device", "cuda", "--dtype", "q8_0"],
            "`--dtype q8_0` is served on the CPU only",
        ),
        (["--device", "gpu", "--dtype", "auto"], "`gpu` is no device"),
    ] {
        let output = generate(&folder(), &arguments);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{said}");
    }
}

#[test]
fn without_a_driver_the_program_says_so_or_finds_the_one_that_is_installed() {
    let nothing = tempfile::tempdir().unwrap();
    let output = generate(nothing.path(), &["--device", "cuda"]);
    let said = text(&output.stderr);
    let is_installed = std::fs::exists("/dev/nvidiactl").unwrap();
    assert_eq!(output.status.success(), is_installed, "{said}");
    assert!(
        is_installed || said.contains("libcuda.so.1 was not found"),
        "{said}"
    );
    let auto = generate(nothing.path(), &["--device", "auto"]);
    assert!(auto.status.success(), "{}", text(&auto.stderr));
}

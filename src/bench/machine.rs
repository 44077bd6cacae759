//! The machine that the bench runs on; where it loads another one, the report's reader must know.

use serde::Serialize;

/// What a reader needs to judge figures by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    /// Operating system and architecture.
    platform: String,
    /// The processor's own name; empty where the system does not tell it.
    processor: String,
    /// Cores that this process may use.
    cores: usize,
    /// Widest vector instructions that matter here.
    vectors: &'static str,
    /// Memory, in MiB; 0 where the system does not tell it.
    memory_mib: u64,
}

impl Machine {
    /// This one.
    pub(super) fn this() -> Self {
        let field = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let kib = field("/proc/meminfo", "MemTotal");
        let kib = kib
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<u64>().ok());
        Self {
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            vectors: vectors(),
            memory_mib: kib.unwrap_or(0) / 1024,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx512f") {
        "avx512"
    } else if std::arch::is_x86_feature_detected!("avx2") {
        "avx2"
    } else {
        "sse2"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    "unknown"
}

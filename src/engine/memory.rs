//! How much memory the system would still give, as far as it tells.

use std::path::Path;

/// Bytes that are free for this process: of the machine, or of its control group where that is
/// less. `None` where the system does not tell.
pub(super) fn free_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(available);
    let group = group_bytes(Path::new("/sys/fs/cgroup"));
    machine.into_iter().chain(group).min()
}

/// `MemAvailable` of /proc/meminfo.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// What the control group mounted here has left, if it has a limit.
fn group_bytes(dir: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(dir.join(name)).ok()?;
        text.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_available_memory_is_read_in_bytes() {
        let meminfo = "MemTotal:   100 kB\nMemFree:  1 kB\nMemAvailable:      42 kB\n";
        assert_eq!(available(meminfo), Some(42 * 1024));
        assert_eq!(available("MemTotal: 100 kB\n"), None);
    }

    #[test]
    fn a_limited_group_has_what_it_does_not_use() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(group_bytes(dir.path()), None);
        std::fs::write(dir.path().join("memory.current"), "300\n").unwrap();
        std::fs::write(dir.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(group_bytes(dir.path()), None, "no limit");
        std::fs::write(dir.path().join("memory.max"), "1000\n").unwrap();
        assert_eq!(group_bytes(dir.path()), Some(700));
    }
}

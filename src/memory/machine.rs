//! How much memory this process may have: the machine's, or what its control groups leave of it.
use std::path::Path;

/// Bytes of memory that the process can hope for; `None` where the system does not say.
pub fn memory_of_machine() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = limit_of(&groups, Path::new("/sys/fs/cgroup"));
    machine.into_iter().chain(limit).min()
}

/// Resident bytes of this process that are no mapped files; `None` where the system does not say.
pub fn anonymous_bytes() -> Option<u64> {
    kib_of(&std::fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// `MemTotal` of `/proc/meminfo`, bytes.
fn total(meminfo: &str) -> Option<u64> {
    kib_of(meminfo, "MemTotal:")
}

/// The value of a line `KEY 123 kB`, bytes.
fn kib_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest limit of the groups that `/proc/self/cgroup` names and of those above them, version 1 or 2.
fn limit_of(groups: &str, root: &Path) -> Option<u64> {
    let mut smallest = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (base, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = base.join(path.trim_start_matches('/'));
        for level in group.ancestors().take_while(|level| level.starts_with(&base)) {
            // "max", a number, or no such file where this process sees only a part of the tree.
            let limit =
                std::fs::read_to_string(level.join(file)).ok().and_then(|text| text.trim().parse().ok());
            smallest = smallest.into_iter().chain(limit).min();
        }
    }
    smallest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_all_groups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| limit_of(groups, root.path());
        assert_eq!(limit("0::/a/b\n"), None, "no files");
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/memory.max", "3000\n");
        write("a/b/memory.max", "4000\n");
        assert_eq!(limit("0::/a/b\n"), Some(3000));
        write("memory/x/memory.limit_in_bytes", "2000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("4:cpu,memory:/x\n0::/a/b\n"), Some(2000));
        assert_eq!(limit("4:cpu:/x\nnonsense\n"), None);
        assert_eq!(total("MemTotal:       2 kB\nMemFree: 1 kB\n"), Some(2048));
        assert!(memory_of_machine() > anonymous_bytes());
    }
}

//! The limit of memory of the control groups that the process is in: who exceeds it is ended by the kernel, without a word.

use std::fs;
use std::path::Path;

/// Which groups the process is in.
const GROUPS_OF_PROCESS: &str = "/proc/self/cgroup";

/// Where the kernel shows them, a container its own ones.
const GROUPS: &str = "/sys/fs/cgroup";

/// A limit of the first version that is none has every bit of a positive number, less those of a page.
const NO_LIMIT: u64 = 1 << 60;

/// The limit in bytes, if there is one.
pub fn memory_limit() -> Option<u64> {
    lowest_limit(Path::new(GROUPS), &fs::read_to_string(GROUPS_OF_PROCESS).ok()?)
}

/// The lowest limit of these groups and of those above them, as far as they can be seen.
///
/// Source: "Memory Interface Files" of `cgroup-v2` and "Memory Resource Controller" of `cgroup-v1` in the documentation of Linux.
fn lowest_limit(root: &Path, groups: &str) -> Option<u64> {
    groups.lines().filter_map(|line| limit_of_group(root, line)).min()
}

/// Of one line `<number>:<controllers>:<path>`; the second version names no controllers.
fn limit_of_group(root: &Path, line: &str) -> Option<u64> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        several if several.split(',').any(|one| one == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
        _ => return None,
    };
    let of_group = |group: &Path| fs::read_to_string(root.join(group).join(file)).ok()?.trim().parse().ok();
    let groups = Path::new(path.trim_start_matches('/')).ancestors();
    groups.filter_map(of_group).filter(|limit: &u64| *limit < NO_LIMIT).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What is read where these files are.
    fn limit(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        lowest_limit(root.path(), groups)
    }

    #[test]
    fn a_container_sees_its_own_limit() {
        assert_eq!(limit("0::/\n", &[("memory.max", "201326592\n")]), Some(192 * MIB));
        // Without a namespace of groups the path is that of the machine, and the files are the container's.
        let machine = "12:cpu,cpuacct:/kubepods/a\n9:memory:/kubepods/a\n0::/kubepods/a\n";
        assert_eq!(limit(machine, &[("memory/memory.limit_in_bytes", "134217728\n")]), Some(128 * MIB));
        assert_eq!(limit("0::/../../a", &[("memory.max", "134217728")]), Some(128 * MIB));
    }

    #[test]
    fn of_nested_groups_the_lowest_limit_counts() {
        let files =
            [("a.slice/memory.max", "104857600"), ("a.slice/b.service/memory.max", "max"), ("c.slice/memory.max", "1")];
        assert_eq!(limit("0::/a.slice/b.service", &files), Some(100 * MIB));
    }

    #[test]
    fn where_nothing_is_limited_or_nothing_can_be_read_there_is_none() {
        assert_eq!(limit("0::/", &[("memory.max", "max\n")]), None);
        assert_eq!(limit("9:memory:/", &[("memory/memory.limit_in_bytes", "9223372036854771712\n")]), None);
        assert_eq!(limit("8:pids:/", &[("memory.max", "1"), ("memory/memory.limit_in_bytes", "1")]), None);
        for groups in ["", "0::/", "nonsense", "::::", "9:memory:/a"] {
            assert_eq!(limit(groups, &[("memory.max", "many")]), None, "{groups}");
        }
    }
}

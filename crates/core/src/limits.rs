//! What memory this process has and may take: of the machine, of its control group, of its user.
//!
//! Linux says it in `/proc` and in the control groups' files; elsewhere nothing is known, and nothing is limited here.
//!
//! - The machine: `MemTotal` and `SwapTotal` of `/proc/meminfo`.
//! - The control group, of version 2 (`memory.max`, and `memory.swap.max` of the swap) or 1 (`memory.limit_in_bytes`, and
//!   `memory.memsw.limit_in_bytes` with the swap), and every group above it: the smallest counts. Where the groups are
//!   mounted says `/proc/self/mountinfo`; a container sees its own group as the root of them.
//! - The user: `ulimit -v` (addresses) and `ulimit -d` (data), as `/proc/self/limits` has them. They bound what is
//!   reserved, not what is resident.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A limit on this process's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "MemoryLimit"))]
pub struct Limit {
    /// Whose it is, for people: `"the machine"`, `"the control group /job"`, `"ulimit -v"`.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// What this process has of it.
    pub used: u64,
}

/// Every limit there is, and what is free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "MemoryLimits"))]
pub struct Limits {
    /// The limits.
    pub limits: Vec<Limit>,
    /// What the machine could give without swapping; none where it does not say.
    pub available: Option<u64>,
}

/// What this process has, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Resident memory.
    pub resident: u64,
    /// The highest it has been.
    pub peak: u64,
    /// Addresses.
    pub addresses: u64,
    /// Memory of its own, resident or not.
    pub data: u64,
}

impl Process {
    /// As the system says; none where it does not.
    pub fn now() -> Option<Process> {
        Process::of(Path::new("/"))
    }

    fn of(root: &Path) -> Option<Process> {
        let text = fs::read_to_string(root.join("proc/self/status")).ok()?;
        let field = |name| kibibytes(&text, name);
        Some(Process {
            resident: field("VmRSS:")?,
            peak: field("VmHWM:")?,
            addresses: field("VmSize:")?,
            data: field("VmData:")?,
        })
    }
}

impl Limits {
    /// Those of this process.
    pub fn now() -> Limits {
        Limits::of(Path::new("/"))
    }

    /// Those that the files below `root` tell.
    fn of(root: &Path) -> Limits {
        let Some(process) = Process::of(root) else { return Limits::default() };
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let memory = read("proc/meminfo");
        let swap = kibibytes(&memory, "SwapTotal:").unwrap_or(0);
        let resident = |(name, bytes): (String, u64)| Limit { name, bytes, used: process.resident };
        let total = kibibytes(&memory, "MemTotal:");
        let mut limits: Vec<Limit> =
            total.map(|total| resident(("the machine".into(), total + swap))).into_iter().collect();
        let groups = ControlGroup::all(root, &read("proc/self/cgroup"), &read("proc/self/mountinfo"));
        // A limit above the machine's memory is none.
        let tight = |(_, bytes): &(String, u64)| total.is_none_or(|total| *bytes < total + swap);
        limits.extend(groups.iter().filter_map(|group| group.limit(swap)).filter(tight).map(resident));
        let user = read("proc/self/limits");
        for (name, field, used) in
            [("ulimit -v", "Max address space", process.addresses), ("ulimit -d", "Max data size", process.data)]
        {
            let soft = user.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok());
            limits.extend(soft.map(|bytes| Limit { name: name.into(), bytes, used }));
        }
        Limits { limits, available: kibibytes(&memory, "MemAvailable:") }
    }

    /// What this process may take beside what it has, and the limit that says so.
    pub fn room(&self) -> Option<(u64, &Limit)> {
        let room = |limit: &Limit| limit.bytes.saturating_sub(limit.used);
        self.limits.iter().map(|limit| (room(limit), limit)).min_by_key(|(room, _)| *room)
    }
}

/// A control group of this process that may limit its memory.
struct ControlGroup {
    /// Where the groups are mounted.
    mount: PathBuf,
    /// The group's folder.
    folder: PathBuf,
    /// Its version.
    second: bool,
}

impl ControlGroup {
    /// That of each version, from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn all(root: &Path, groups: &str, mounts: &str) -> Vec<ControlGroup> {
        let of = |second: bool| {
            let path = groups.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                let memory = controllers.split(',').any(|controller| controller == "memory");
                (if second { controllers.is_empty() } else { memory }).then_some(path)
            })?;
            let (within, mount) = mounts.lines().find_map(|line| {
                let (before, after) = line.split_once(" - ")?;
                let (kind, options) = after.split_once(' ')?;
                let memory = options.split([' ', ',']).any(|option| option == "memory");
                let fields: Vec<&str> = before.split(' ').collect();
                (if second { kind == "cgroup2" } else { kind == "cgroup" && memory })
                    .then_some((*fields.get(3)?, *fields.get(4)?))
            })?;
            let mount = root.join(mount.trim_start_matches('/'));
            // A container's group is the root of what is mounted there, whatever the path says.
            let below = Path::new(path).strip_prefix(within).unwrap_or(Path::new(""));
            let outside = below.components().any(|part| part == std::path::Component::ParentDir);
            let folder = if outside { mount.clone() } else { mount.join(below) };
            Some(ControlGroup { mount, folder, second })
        };
        [true, false].into_iter().filter_map(of).collect()
    }

    /// The smallest limit of the group and those above it, with the `swap` it allows, and its name.
    fn limit(&self, swap: u64) -> Option<(String, u64)> {
        let above = self.folder.ancestors().take_while(|folder| folder.starts_with(&self.mount));
        let limit = |folder: &Path| {
            let number = |name| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
            let bytes = if self.second {
                number("memory.max")?.saturating_add(number("memory.swap.max").unwrap_or(u64::MAX).min(swap))
            } else {
                let memory = number("memory.limit_in_bytes")?;
                memory.saturating_add(swap).min(number("memory.memsw.limit_in_bytes").unwrap_or(u64::MAX)).max(memory)
            };
            let name = folder.strip_prefix(&self.mount).unwrap_or(folder).display();
            Some((format!("the control group /{name}"), bytes))
        };
        above.filter_map(limit).min_by_key(|(_, bytes)| *bytes)
    }
}

/// The bytes of a line `name  1234 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const UNLIMITED: &str = "Max address space         unlimited            unlimited            bytes\n";

    /// A root with a process of 1 GiB on a machine of 8 GiB and 2 GiB of swap, and `files`.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let status = "VmSize:\t 3145728 kB\nVmHWM:\t 1048576 kB\nVmRSS:\t 1048576 kB\nVmData:\t 2097152 kB\n";
        let memory = "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 2097152 kB\n";
        let usual = [("proc/self/status", status), ("proc/meminfo", memory), ("proc/self/limits", UNLIMITED)];
        for (path, text) in usual.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn limits(files: &[(&str, &str)]) -> Vec<(String, u64, u64)> {
        let of = |limit: Limit| (limit.name, limit.bytes, limit.used);
        Limits::of(root(files).path()).limits.into_iter().map(of).collect()
    }

    #[test]
    fn the_machine_alone_limits_with_its_swap() {
        assert_eq!(limits(&[]), [("the machine".to_string(), 10 * GIB, GIB)]);
        assert_eq!(Limits::of(root(&[]).path()).available, Some(4 * GIB));
    }

    #[test]
    fn the_smallest_group_of_the_second_version_counts_with_the_swap_it_allows() {
        let files = [
            ("proc/self/cgroup", "0::/jobs/one\n"),
            ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"),
            ("sys/fs/cgroup/jobs/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/jobs/memory.swap.max", "0\n"),
            ("sys/fs/cgroup/jobs/one/memory.max", "max\n"),
        ];
        assert_eq!(limits(&files)[1..], [("the control group /jobs".to_string(), 4 * GIB, GIB)]);
        let allowed = files.map(|(path, text)| (path, if path.ends_with("swap.max") { "max" } else { text }));
        assert_eq!(limits(&allowed)[1].1, 6 * GIB);
    }

    #[test]
    fn a_container_of_the_first_version_sees_its_group_as_the_root() {
        let mounts = "36 32 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let files = |path| {
            [
                ("proc/self/cgroup", path),
                ("proc/self/mountinfo", mounts),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
                ("sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "3221225472\n"),
            ]
        };
        for path in ["5:cpu:/docker/abc\n4:memory:/docker/abc\n", "4:memory:/\n", "4:memory:/../..\n"] {
            assert_eq!(limits(&files(path))[1..], [("the control group /".to_string(), 3 * GIB, GIB)], "{path}");
        }
        let mut unlimited = files("4:memory:/\n");
        unlimited[2].1 = "9223372036854771712\n";
        assert_eq!(limits(&unlimited[..3]).len(), 1, "the number that stands for no limit");
    }

    #[test]
    fn limits_of_the_user_are_on_what_is_reserved() {
        let text = "Max data size   6442450944  unlimited  bytes\nMax address space  4294967296  unlimited  bytes\n";
        let root = root(&[("proc/self/limits", text)]);
        let limits = Limits::of(root.path());
        let found: Vec<_> = limits.limits[1..].iter().map(|limit| (&limit.name[..], limit.bytes, limit.used)).collect();
        assert_eq!(found, [("ulimit -v", 4 * GIB, 3 * GIB), ("ulimit -d", 6 * GIB, 2 * GIB)]);
        let (room, limit) = limits.room().unwrap();
        assert_eq!((room, &limit.name[..]), (GIB, "ulimit -v"));
    }

    #[test]
    fn a_system_that_says_nothing_limits_nothing() {
        assert_eq!(Limits::of(tempfile::tempdir().unwrap().path()), Limits::default());
        assert_eq!(Limits::default().room(), None);
    }
}

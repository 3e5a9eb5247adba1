//! Which ranks share a machine, and which of them its cores.

use serde::{Deserialize, Serialize};

/// Where a rank is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    host: String,
    /// The cores it may use, in the system's words; nothing where it does not say.
    cores: String,
}

impl Place {
    /// This process, on the machine of that name.
    pub(super) fn here(host: &str) -> Place {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Place { host: host.into(), cores: cores.unwrap_or_default().trim().into() }
    }
}

/// The ranks on the same machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbours {
    /// Whether no rank before this one is there.
    pub(super) is_first_on_host: bool,
    /// Those that may use the same cores, with this one.
    pub(super) on_these_cores: usize,
}

impl Neighbours {
    /// Those of `rank`, where all ranks are at these places.
    pub(super) fn of(rank: usize, places: &[Place]) -> Neighbours {
        let here = &places[rank];
        Neighbours {
            is_first_on_host: places[..rank].iter().all(|other| other.host != here.host),
            on_these_cores: places.iter().filter(|other| *other == here).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_the_cores_that_they_may_use() {
        let place = |host: &str, cores: &str| Place { host: host.into(), cores: cores.into() };
        let places = [place("a", "0-7"), place("a", "0-7"), place("b", "0"), place("b", "1")];
        let found: Vec<_> = (0..4).map(|rank| Neighbours::of(rank, &places)).collect();
        assert_eq!(found.iter().map(|each| each.is_first_on_host).collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(found.iter().map(|each| each.on_these_cores).collect::<Vec<_>>(), [2, 2, 1, 1]);
    }

    #[test]
    fn a_process_knows_its_cores_where_the_system_says_them() {
        assert_eq!(Place::here("a").cores.is_empty(), !cfg!(target_os = "linux"));
    }
}

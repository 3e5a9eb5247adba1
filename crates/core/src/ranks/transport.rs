//! What connects ranks: MPI; in tests threads.

use std::sync::{Arc, OnceLock};

use rkd_mpi::World;

use super::Ranks;
use crate::error::{Code, Error, Result};

/// Connects ranks. All of them make the same calls in the same order, each with buffers of the same lengths.
pub trait Transport: Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;
    /// How many they are.
    fn size(&self) -> usize;
    /// The name of this rank's machine.
    fn host(&self) -> &str;
    /// Everybody's bytes, one after the other.
    ///
    /// # Errors
    /// The transport's own.
    fn all_gather(&self, mine: &[u8], all: &mut [u8]) -> Result<()>;
    /// [`Transport::all_gather`] of numbers.
    ///
    /// # Errors
    /// The transport's own.
    fn all_gather_numbers(&self, mine: &[f32], all: &mut [f32]) -> Result<()>;
    /// Share number i of `from` goes to rank i; `to` has everybody's share for this rank, one after the other.
    ///
    /// # Errors
    /// The transport's own.
    fn all_to_all(&self, from: &[f32], to: &mut [f32]) -> Result<()>;
    /// Rank 0's bytes come to all.
    ///
    /// # Errors
    /// The transport's own.
    fn broadcast(&self, bytes: &mut [u8]) -> Result<()>;
}

impl Transport for World {
    fn rank(&self) -> usize {
        World::rank(self)
    }

    fn size(&self) -> usize {
        World::size(self)
    }

    fn host(&self) -> &str {
        World::host(self)
    }

    fn all_gather(&self, mine: &[u8], all: &mut [u8]) -> Result<()> {
        World::all_gather(self, mine, all).map_err(failed)
    }

    fn all_gather_numbers(&self, mine: &[f32], all: &mut [f32]) -> Result<()> {
        World::all_gather_numbers(self, mine, all).map_err(failed)
    }

    fn all_to_all(&self, from: &[f32], to: &mut [f32]) -> Result<()> {
        World::all_to_all(self, from, to).map_err(failed)
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
        World::broadcast(self, bytes).map_err(failed)
    }
}

fn failed(why: String) -> Error {
    Error::new(Code::MpiFailed, why).with_advice(
        "see what the launcher says; another rank may have ended. The last checkpoint is whole: resume from it",
    )
}

/// What a launcher has said in the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The ranks that it has started, where it says so.
    pub size: Option<usize>,
    /// The variable that says it.
    pub variable: &'static str,
}

/// Whether a launcher of MPI started this process: `mpirun` of Open MPI or of MPICH and Intel MPI, or `srun --mpi=...`.
pub fn launch() -> Option<Launch> {
    launch_of(|name| std::env::var(name).ok())
}

const SLURM_TASKS: &str = "SLURM_STEP_NUM_TASKS";

fn launch_of(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let sizes = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
    let sized = sizes.into_iter().find_map(|name| Some((variable(name)?.parse().ok()?, name)));
    match sized {
        Some((size, variable)) => Some(Launch { size: Some(size), variable }),
        // MPICH's with `-pmi-port` says the rest by that port.
        None if variable("PMI_PORT").is_some() => Some(Launch { size: None, variable: "PMI_PORT" }),
        // Without --mpi=... srun starts several, and connects none.
        None => {
            let size: Option<usize> = variable(SLURM_TASKS).and_then(|size| size.parse().ok());
            let started = variable("SLURM_PROCID").is_some() && size.is_some_and(|size| size > 1);
            let connected = variable("PMIX_RANK").is_some();
            (connected || started).then_some(Launch { size, variable: SLURM_TASKS })
        }
    }
}

/// Checks that the connection to a launcher of MPICH's kind has come to this process: an open file, whose number `PMI_FD` is.
/// Without it MPI ends the process, or waits for ever.
fn check_connection(variable: impl Fn(&str) -> Option<String>, is_socket: impl Fn(&str) -> bool) -> Result<()> {
    let Some(number) = variable("PMI_FD") else { return Ok(()) };
    // npx closes most such files, and leaves others: then some ranks would wait for those that cannot come.
    let program = variable("npm_lifecycle_script").filter(|_| variable("npm_command").as_deref() == Some("exec"));
    let by_npx = program.is_some_and(|script| script.split_whitespace().next() == Some("rkd"));
    if !by_npx && is_socket(&number) {
        return Ok(());
    }
    let between = if by_npx { "npx between mpirun and rkd, which closes it" } else { "a closed or other file" };
    Err(Error::new(Code::MpiFailed, "the launcher's connection has not come to this process")
        .with_subject("PMI_FD")
        .with_values(format!("the launcher's socket as open file {number}"), between)
        .with_advice(
            "start rkd without npx: mpirun -n 4 node_modules/.bin/rkd, or rkd with node_modules/.bin in the PATH",
        ))
}

/// Whether an open file of this process is a socket.
#[cfg(unix)]
fn is_socket(number: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(format!("/dev/fd/{number}")).is_ok_and(|file| file.file_type().is_socket())
}

/// As on Unix; there is no MPI.
#[cfg(not(unix))]
fn is_socket(_: &str) -> bool {
    true
}

/// This process's MPI: joined once.
static WORLD: OnceLock<(Arc<World>, Ranks)> = OnceLock::new();

/// Joins the other ranks by MPI, for the rest of the process's life.
///
/// # Errors
/// `ERR_MPI_MISSING` where there is no MPI library, with what was tried and what to install; `ERR_MPI_MISMATCH` where the
/// library is of another MPI than the launcher; `ERR_MPI_FAILED`, also where the launcher's connection was closed on the way.
pub fn join() -> Result<(Ranks, &'static World)> {
    if WORLD.get().is_none() {
        check_connection(|name| std::env::var(name).ok(), is_socket)?;
        let world = Arc::new(World::join().map_err(|missing| no_library(&missing))?);
        check_launch(launch().as_ref(), &world)?;
        let ranks = Ranks::over(Arc::clone(&world) as Arc<dyn Transport>)?;
        let _ = WORLD.set((world, ranks)); // a session's commands come one after the other
    }
    let (world, ranks) = WORLD.get().ok_or_else(|| Error::new(Code::Internal, "MPI was joined twice"))?;
    Ok((ranks.clone(), world))
}

/// The MPI that was joined.
pub fn joined() -> Option<(&'static Ranks, &'static World)> {
    WORLD.get().map(|(world, ranks)| (ranks, &**world))
}

/// The cores of this process, which ranks on one machine share; see [`Ranks::cores`].
pub fn cores() -> usize {
    joined().map_or_else(Ranks::one, |(ranks, _)| ranks.clone()).cores()
}

fn no_library(missing: &rkd_mpi::Missing) -> Error {
    let received = match missing.tried[..] {
        [] => "none: it is looked for on Linux and macOS only".into(),
        _ => missing.to_string(),
    };
    Error::new(Code::MpiMissing, "there is no MPI to join the other ranks by")
        .with_subject("distributed")
        .with_values("a library of Open MPI, MPICH, Intel MPI or the standard ABI", received)
        .with_advice(format!(
            "install one (Debian: apt install openmpi-bin; anywhere: pip install mpich), put its mpirun first in the PATH, or \
             name its library by {}; with distributed: \"none\" each process is a run of its own",
            rkd_mpi::VARIABLE
        ))
}

/// The launcher of one vendor and the library of another leave every rank alone.
fn check_launch(launch: Option<&Launch>, world: &World) -> Result<()> {
    let Some(Launch { size: Some(size), variable }) = launch else { return Ok(()) };
    if *size == world.size() {
        return Ok(());
    }
    let library = format!("name the library of the launcher's MPI by {}", rkd_mpi::VARIABLE);
    let advice = match *variable {
        SLURM_TASKS => {
            format!("start them with srun --mpi=pmix or --mpi=pmi2 (srun --mpi=list names what there is), or {library}")
        }
        _ => library,
    };
    Err(Error::new(Code::MpiMismatch, "the MPI library is not the launcher's")
        .with_subject(rkd_mpi::VARIABLE)
        .with_values(format!("{size} ranks, as {variable} says"), format!("{} of {}", world.size(), world.version()))
        .with_advice(advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_is_known_by_its_variables() {
        let of =
            |name: &'static str, value: &'static str| launch_of(move |asked| (asked == name).then(|| value.into()));
        assert_eq!(of("PATH", "/bin"), None);
        assert_eq!(of("OMPI_COMM_WORLD_SIZE", "4").unwrap().size, Some(4));
        assert_eq!(of("PMI_SIZE", "2").unwrap().size, Some(2));
        assert_eq!(of("PMIX_RANK", "0").unwrap().size, None);
        assert_eq!(of("PMI_PORT", "node-a:40001").unwrap().size, None);
        let slurm = |asked: &str| ["PMIX_RANK", "SLURM_STEP_NUM_TASKS"].contains(&asked).then(|| "3".into());
        assert_eq!(launch_of(slurm).unwrap().size, Some(3));
        let tasks = |size: &'static str| {
            launch_of(move |asked| match asked {
                SLURM_TASKS => Some(size.into()),
                "SLURM_PROCID" => Some("0".into()),
                _ => None,
            })
        };
        assert_eq!(tasks("4"), Some(Launch { size: Some(4), variable: SLURM_TASKS }));
        assert_eq!(tasks("1"), None);
    }

    #[test]
    fn a_connection_that_was_lost_on_the_way_is_told_before_mpi_waits_for_it() {
        let ask = |script: &'static str, socket: bool| {
            let variable = move |asked: &str| match asked {
                "PMI_FD" => Some("9".to_string()),
                "npm_command" => Some("exec".into()),
                "npm_lifecycle_script" => Some(script.into()),
                _ => None,
            };
            check_connection(variable, move |number| socket && number == "9")
        };
        assert!(ask("mpirun -n 4 rkd", true).is_ok()); // npx before mpirun
        assert!(check_connection(|_| None, |_| false).is_ok());
        for (script, socket, said) in [("rkd", true, "npx"), ("rkd", false, "npx"), ("vitest", false, "other file")] {
            let error = ask(script, socket).unwrap_err();
            assert_eq!(error.code, Code::MpiFailed);
            assert!(error.received.as_deref().unwrap().contains(said), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_known_by_its_number() {
        use std::os::fd::AsRawFd;
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(is_socket(&socket.as_raw_fd().to_string()));
        assert!(!is_socket(&file.as_raw_fd().to_string()) && !is_socket("987654"));
    }

    #[test]
    fn without_a_library_the_error_says_what_was_tried_and_what_to_install() {
        let tried =
            vec![("libmpi.so.40".into(), "No such file".into()), ("libmpi.so.12".into(), "No such file".into())];
        let text = no_library(&rkd_mpi::Missing { tried }).to_string();
        for part in ["libmpi.so.40 (No such file), libmpi.so.12", "apt install openmpi-bin", "RKD_MPI"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

//! The processes of a run, over the C interface.

use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::{Missing, names};

/// A handle of MPI, whatever the vendor makes of it.
type Word = usize;

/// Room for the `MPI_Status` of any vendor: 20 to 32 bytes.
type Status = [u64; 16];

/// Room for any text that MPI gives: the longest that a vendor may need is 8,192.
const LONGEST_TEXT: usize = 8192;

/// How long a wait keeps its core busy, and after which it sleeps between looks.
const BUSY: Duration = Duration::from_micros(50);
const SLEEPY: Duration = Duration::from_millis(5);
const NAP: Duration = Duration::from_micros(200);

/// The handles and constants of a vendor.
#[derive(Clone, Copy, Debug)]
struct Constants {
    world: Word,
    byte: Word,
    float: Word,
    errors_return: Word,
    /// Calls by one thread at a time.
    serialized: c_int,
    /// Calls by any thread at any time.
    multiple: c_int,
}

/// The calls.
struct Calls {
    init_thread: unsafe extern "C" fn(*mut c_void, *mut c_void, c_int, *mut c_int) -> c_int,
    comm_rank: unsafe extern "C" fn(Word, *mut c_int) -> c_int,
    comm_size: unsafe extern "C" fn(Word, *mut c_int) -> c_int,
    comm_set_errhandler: unsafe extern "C" fn(Word, Word) -> c_int,
    library_version: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int,
    processor_name: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int,
    error_string: unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int,
    iallgather: unsafe extern "C" fn(*const c_void, c_int, Word, *mut c_void, c_int, Word, Word, *mut Word) -> c_int,
    ialltoall: unsafe extern "C" fn(*const c_void, c_int, Word, *mut c_void, c_int, Word, Word, *mut Word) -> c_int,
    ibcast: unsafe extern "C" fn(*mut c_void, c_int, Word, c_int, Word, *mut Word) -> c_int,
    test: unsafe extern "C" fn(*mut Word, *mut c_int, *mut Status) -> c_int,
    abort: unsafe extern "C" fn(Word, c_int) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
    /// Keeps the code of the calls in memory.
    _library: Library,
}

/// The thread that MPI was initialised by, which is the one that may end it.
struct Main {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

/// The processes of one run. There is one in a process, which joins once.
pub struct World {
    calls: Arc<Calls>,
    constants: Constants,
    rank: usize,
    size: usize,
    version: String,
    host: String,
    /// Held during a call: all processes make the same calls in the same order, so there is one at a time.
    busy: Mutex<()>,
    main: Mutex<Option<Main>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}, {}", self.rank, self.size, self.version)
    }
}

impl World {
    /// Loads MPI and joins the other processes; without a launcher there are none. To be called once in a process.
    ///
    /// # Errors
    /// What was tried, where no library is there; or the library's own words.
    pub fn join() -> Result<World, Missing> {
        let mut missing = Missing::default();
        for name in names(|name| std::env::var(name).ok()) {
            // SAFETY: loading runs the library's own constructors. That is what whoever installs or names an MPI asks for.
            match unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_GLOBAL) } {
                Ok(library) => match World::with(library, &name) {
                    Ok(world) => return Ok(world),
                    Err(why) => missing.tried.push((name, why)),
                },
                Err(error) => missing.tried.push((name, reason(&error))),
            }
            // Two of them in one process disturb each other: what was loaded and failed is the answer.
            if missing.tried.last().is_some_and(|(_, why)| why.starts_with(FAILED)) {
                break;
            }
        }
        Err(missing)
    }

    fn with(library: Library, name: &str) -> Result<World, String> {
        let constants = constants(&library, name)?;
        let calls = Arc::new(Calls::new(library).map_err(|error| error.to_string())?);
        let (end, ending) = channel();
        let (joined, joining) = channel();
        let own = Arc::clone(&calls);
        let main = move || {
            let initialized = init(&own, constants);
            let is_there = initialized.is_ok();
            let _ = joined.send(initialized);
            if is_there && ending.recv().is_ok() {
                // SAFETY: this thread has initialised MPI, and `World::leave` lets nobody call afterwards.
                unsafe { (own.finalize)() };
            }
        };
        let thread = std::thread::Builder::new().name("rkd-mpi".into()).spawn(main).map_err(|e| e.to_string())?;
        joining.recv().map_err(|_| format!("{FAILED}: its thread has ended"))??;
        let (mut rank, mut size) = (0, 0);
        let world = constants.world;
        // SAFETY: MPI is initialised; the numbers live through the calls, and the handles are the vendor's.
        unsafe {
            check(&calls, (calls.comm_rank)(world, &mut rank), "MPI_Comm_rank")?;
            check(&calls, (calls.comm_size)(world, &mut size), "MPI_Comm_size")?;
            check(&calls, (calls.comm_set_errhandler)(world, constants.errors_return), "MPI_Comm_set_errhandler")?;
        }
        let version = text(|to, length| {
            // SAFETY: `to` has room for the longest text.
            unsafe { (calls.library_version)(to, length) }
        });
        let host = text(|to, length| {
            // SAFETY: as above.
            unsafe { (calls.processor_name)(to, length) }
        });
        let main = Mutex::new(Some(Main { end, thread }));
        let (rank, size, busy) = (rank as usize, size as usize, Mutex::new(()));
        Ok(World { calls, constants, rank, size, version, host, busy, main })
    }

    /// This process among them, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many they are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Vendor and version, in the vendor's words.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The machine's name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Everybody's bytes, as many of each, one after the other: `all` has [`World::size`] times as many as `mine`.
    ///
    /// # Errors
    /// MPI's own words.
    pub fn all_gather(&self, mine: &[u8], all: &mut [u8]) -> Result<(), String> {
        self.gather(mine, all, self.constants.byte)
    }

    /// [`World::all_gather`] of numbers.
    ///
    /// # Errors
    /// MPI's own words.
    pub fn all_gather_numbers(&self, mine: &[f32], all: &mut [f32]) -> Result<(), String> {
        self.gather(mine, all, self.constants.float)
    }

    fn gather<T>(&self, mine: &[T], all: &mut [T], kind: Word) -> Result<(), String> {
        assert_eq!(mine.len() * self.size, all.len(), "everybody's share");
        let count = count(mine.len())?;
        let (from, to) = (mine.as_ptr().cast(), all.as_mut_ptr().cast());
        // SAFETY: both buffers live until `run` has seen the call end, hold as many values as are said, and `kind` is their
        // type. Nobody else has a reference to `all`.
        self.run("MPI_Iallgather", |request| unsafe {
            (self.calls.iallgather)(from, count, kind, to, count, kind, self.constants.world, request)
        })
    }

    /// Share number i of `from` goes to rank i; `to` has everybody's share for this rank, one after the other.
    ///
    /// # Errors
    /// MPI's own words.
    pub fn all_to_all(&self, from: &[f32], to: &mut [f32]) -> Result<(), String> {
        assert!(from.len() == to.len() && from.len().is_multiple_of(self.size), "a share for each");
        let count = count(from.len() / self.size)?;
        let (kind, world) = (self.constants.float, self.constants.world);
        let (from, to) = (from.as_ptr().cast(), to.as_mut_ptr().cast());
        // SAFETY: as in `gather`.
        self.run("MPI_Ialltoall", |request| unsafe {
            (self.calls.ialltoall)(from, count, kind, to, count, kind, world, request)
        })
    }

    /// Rank 0's bytes come to all.
    ///
    /// # Errors
    /// MPI's own words.
    pub fn broadcast(&self, bytes: &mut [u8]) -> Result<(), String> {
        let count = count(bytes.len())?;
        let (kind, world) = (self.constants.byte, self.constants.world);
        let buffer = bytes.as_mut_ptr().cast();
        // SAFETY: as in `gather`.
        self.run("MPI_Ibcast", |request| unsafe { (self.calls.ibcast)(buffer, count, kind, 0, world, request) })
    }

    /// Starts a call and waits until it has ended.
    fn run(&self, name: &str, start: impl FnOnce(&mut Word) -> c_int) -> Result<(), String> {
        let _one = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut request: Word = 0;
        check(&self.calls, start(&mut request), name)?;
        let begin = Instant::now();
        loop {
            let (mut done, mut status): (c_int, Status) = (0, [0; 16]);
            // SAFETY: the request is of the call that has just started; there is room for any vendor's status.
            let code = unsafe { (self.calls.test)(&mut request, &mut done, &mut status) };
            check(&self.calls, code, name)?;
            if done != 0 {
                return Ok(());
            }
            match begin.elapsed() {
                waited if waited < BUSY => std::hint::spin_loop(),
                waited if waited < SLEEPY => std::thread::yield_now(),
                _ => std::thread::sleep(NAP),
            }
        }
    }

    /// Ends MPI; returns when all processes have. To be called by all, and nothing after it. Idempotent.
    pub fn leave(&self) {
        let main = self.main.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Main { end, thread }) = main {
            let _one = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = end.send(());
            let _ = thread.join();
        }
    }

    /// Ends all processes at once, with this exit code.
    pub fn abort(&self, code: i32) {
        // SAFETY: MPI is initialised, and this may be called at any time; it does not come back.
        unsafe { (self.calls.abort)(self.constants.world, code) };
    }
}

/// How the reason begins where a library was there.
const FAILED: &str = "it was loaded";

/// What a vendor calls its handles; the library says whose it is, that of the standard ABI by its name.
fn constants(library: &Library, name: &str) -> Result<Constants, String> {
    let address = |name: &str| {
        // SAFETY: only the address is taken; nothing is read through it here.
        unsafe { library.get::<*mut c_void>(name) }.map(|symbol| symbol.as_raw_ptr() as Word)
    };
    let file = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Ok(world) = address("ompi_mpi_comm_world") {
        let get = |name| address(name).map_err(|error| error.to_string());
        let (byte, float) = (get("ompi_mpi_byte")?, get("ompi_mpi_float")?);
        let errors_return = get("ompi_mpi_errors_return")?;
        return Ok(Constants { world, byte, float, errors_return, serialized: 2, multiple: 3 });
    }
    Ok(match file.contains("mpi_abi") {
        // The standard ABI of MPI 5, whoever made the library.
        true => Constants {
            world: 0x101,
            byte: 0x247,
            float: 0x210,
            errors_return: 0x143,
            serialized: 2048,
            multiple: 4096,
        },
        // MPICH 3 and later, and what descends from it.
        false => Constants {
            world: 0x4400_0000,
            byte: 0x4c00_010d,
            float: 0x4c00_040a,
            errors_return: 0x5400_0001,
            serialized: 2,
            multiple: 3,
        },
    })
}

impl Calls {
    fn new(library: Library) -> Result<Calls, libloading::Error> {
        /// The call of this name, as the type of its field says.
        macro_rules! call {
            ($name:literal) => {
                // SAFETY: the types of the fields are those of MPI 3's C binding, with words for handles.
                *unsafe { library.get($name) }?
            };
        }
        Ok(Calls {
            init_thread: call!("MPI_Init_thread"),
            comm_rank: call!("MPI_Comm_rank"),
            comm_size: call!("MPI_Comm_size"),
            comm_set_errhandler: call!("MPI_Comm_set_errhandler"),
            library_version: call!("MPI_Get_library_version"),
            processor_name: call!("MPI_Get_processor_name"),
            error_string: call!("MPI_Error_string"),
            iallgather: call!("MPI_Iallgather"),
            ialltoall: call!("MPI_Ialltoall"),
            ibcast: call!("MPI_Ibcast"),
            test: call!("MPI_Test"),
            abort: call!("MPI_Abort"),
            finalize: call!("MPI_Finalize"),
            _library: library,
        })
    }
}

/// Initialises MPI on this thread.
fn init(calls: &Calls, constants: Constants) -> Result<(), String> {
    let mut given = 0;
    let none = ptr::null_mut();
    // SAFETY: MPI takes no arguments here, and the number lives through the call.
    let code = unsafe { (calls.init_thread)(none, none, constants.multiple, &mut given) };
    if code != 0 {
        return Err(format!("{FAILED}, and MPI_Init_thread returned {code}"));
    }
    match given >= constants.serialized {
        true => Ok(()),
        false => Err(format!("{FAILED}, and lets only the thread that began call it: it was built without threads")),
    }
}

/// What a text call says, its first line.
fn text(ask: impl FnOnce(*mut c_char, *mut c_int) -> c_int) -> String {
    let (mut bytes, mut length) = (vec![0u8; LONGEST_TEXT], 0);
    let code = ask(bytes.as_mut_ptr().cast(), &mut length);
    bytes.truncate(if code == 0 { length.max(0) as usize } else { 0 });
    String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().trim_matches(['\0', ' ']).to_string()
}

fn check(calls: &Calls, code: c_int, name: &str) -> Result<(), String> {
    if code == 0 {
        return Ok(());
    }
    let why = text(|to, length| {
        // SAFETY: `to` has room for the longest text.
        unsafe { (calls.error_string)(code, to, length) }
    });
    Err(format!("{name} failed: {why} (error {code})"))
}

/// A count as MPI takes it.
fn count(length: usize) -> Result<c_int, String> {
    c_int::try_from(length).map_err(|_| format!("{length} values are more than one call of MPI takes"))
}

/// The loader's words, without the name that stands beside them.
fn reason(error: &libloading::Error) -> String {
    // The words are in what the error wraps.
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    text.rsplit_once(": ").map_or(text.clone(), |(_, last)| last.to_string())
}

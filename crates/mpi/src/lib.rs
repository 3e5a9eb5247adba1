//! MPI of any vendor, found and loaded at run time: no header, nothing linked, so that one binary runs under all of them.
//!
//! What differs between vendors is what a handle is: MPICH and its descendants (Intel MPI, Cray) have 32-bit numbers, Open
//! MPI addresses of objects in its library, the standard ABI of MPI 5 small numbers in pointers. Here a handle is a word of the
//! size of a pointer; a callee that takes 32 bits reads the lower half. Only calls that every MPI 3 has are used.
//!
//! Calls wait politely: they are the non-blocking ones, and a process that has to wait long gives its core away, where the
//! blocking calls of most vendors would keep it busy.

mod library;
#[cfg(unix)]
mod world;
#[cfg(not(unix))]
#[path = "absent.rs"]
mod world;

pub use library::{Missing, VARIABLE, names};
pub use world::World;

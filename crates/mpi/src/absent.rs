//! Platforms on which no MPI is looked for.

use super::Missing;

/// The processes of one run: on this platform there is never more than one.
#[derive(Debug)]
pub enum World {}

impl World {
    /// Joins the other processes.
    ///
    /// # Errors
    /// Always.
    pub fn join() -> Result<World, Missing> {
        Err(Missing::default())
    }

    /// This process among them.
    pub fn rank(&self) -> usize {
        match *self {}
    }

    /// How many they are.
    pub fn size(&self) -> usize {
        match *self {}
    }

    /// Vendor and version.
    pub fn version(&self) -> &str {
        match *self {}
    }

    /// The machine's name.
    pub fn host(&self) -> &str {
        match *self {}
    }

    /// As on Unix.
    pub fn all_gather(&self, _mine: &[u8], _all: &mut [u8]) -> Result<(), String> {
        match *self {}
    }

    /// As on Unix.
    pub fn all_to_all(&self, _from: &[f32], _to: &mut [f32]) -> Result<(), String> {
        match *self {}
    }

    /// As on Unix.
    pub fn all_gather_numbers(&self, _mine: &[f32], _all: &mut [f32]) -> Result<(), String> {
        match *self {}
    }

    /// As on Unix.
    pub fn broadcast(&self, _bytes: &mut [u8]) -> Result<(), String> {
        match *self {}
    }

    /// As on Unix.
    pub fn leave(&self) {
        match *self {}
    }

    /// As on Unix.
    pub fn abort(&self, _code: i32) {
        match *self {}
    }
}

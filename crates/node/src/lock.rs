//! `BindingFolderLock`: what JavaScript holds of a folder's lock. It ends with the process at the latest.

use std::path::Path;

use napi_derive::napi;
use rkd_core::artefact::lock::FolderLock;

use crate::error::BindingError;
use crate::panics::guard;

/// The lock of one folder.
#[napi]
#[derive(Default)]
pub struct BindingFolderLock {
    held: Option<FolderLock>,
}

#[napi]
impl BindingFolderLock {
    /// Holds nothing yet.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the lock of `folder` for `holder`, and returns why that is not possible.
    #[napi]
    pub fn acquire(&mut self, folder: String, holder: String) -> Option<BindingError> {
        match guard(|| FolderLock::acquire(Path::new(&folder), &holder)) {
            Ok(lock) => {
                self.held = Some(lock);
                None
            }
            Err(error) => Some(error.into()),
        }
    }

    /// Whether the file system keeps others out.
    #[napi]
    pub fn is_exclusive(&self) -> bool {
        self.held.as_ref().is_some_and(FolderLock::is_exclusive)
    }

    /// Where the folder is now; nothing where it is gone.
    #[napi]
    pub fn place(&self) -> Option<String> {
        self.held.as_ref()?.place()?.into_os_string().into_string().ok()
    }

    /// Gives the lock back. Idempotent.
    #[napi]
    pub fn release(&mut self) {
        self.held = None;
    }
}

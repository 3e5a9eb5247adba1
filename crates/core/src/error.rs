//! The one error type of the core: what was expected, what came, and what to do.

use std::fmt;

/// A specialised result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($variant:ident = $text:literal: $meaning:literal,)*) => {
        /// What kind of thing went wrong. The TypeScript `RkdError.code` is [`Code::as_str`]; the set is closed, and holds
        /// the codes that only TypeScript raises too.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {$(
            #[doc = $meaning]
            $variant,
        )*}

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$variant),*];

            /// The stable text of the code, as users see it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$variant => $text,)*
                }
            }

            /// What it means, a clause.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Code::$variant => $meaning,)*
                }
            }
        }
    };
}

codes! {
    InvalidOption = "ERR_INVALID_OPTION": "an option has a value outside its range, or two options contradict each other",
    UnknownOption = "ERR_UNKNOWN_OPTION": "an option, command or name does not exist",
    InvalidShape = "ERR_INVALID_SHAPE": "a tensor has another shape than the operation takes",
    NotFound = "ERR_NOT_FOUND": "a path does not exist",
    PermissionDenied = "ERR_PERMISSION_DENIED": "a path may not be read or written",
    InvalidData = "ERR_INVALID_DATA": "the data set as a whole cannot be used",
    InvalidArchive = "ERR_INVALID_ARCHIVE": "an archive is damaged or has entries that leave it",
    InvalidArtefact = "ERR_INVALID_ARTEFACT": "a model, checkpoint or plan is damaged or of another version",
    OutputExists = "ERR_OUTPUT_EXISTS": "the output folder holds another run, or files that rkd did not write",
    NonFinite = "ERR_NON_FINITE": "a loss, gradient or parameter stopped being a finite number",
    Cancelled = "ERR_CANCELLED": "the run was cancelled",
    Closed = "ERR_CLOSED": "a model was used after it was closed",
    Io = "ERR_IO": "reading or writing failed for another reason",
    NativeLoad = "ERR_NATIVE_LOAD": "the native addon could not be loaded",
    Device = "ERR_DEVICE": "the device that was asked for cannot be used",
    MpiMissing = "ERR_MPI_MISSING": "ranks are to train together, and there is no MPI library",
    MpiMismatch = "ERR_MPI_MISMATCH": "the MPI library is of another vendor than the launcher that started the ranks",
    MpiFailed = "ERR_MPI_FAILED": "a call of MPI failed",
    RanksDiffer = "ERR_RANKS_DIFFER": "ranks that are to train together differ in plan, version, data or instruction set",
    Internal = "ERR_INTERNAL": "a defect of this library",
}

/// An error with a stable [`Code`], the subject (an option's name or a path), what was expected, what came, and what
/// to do about it. Build one with [`Error::new`] and the `with_` methods; leave out what does not apply.
#[derive(Debug)]
pub struct Error {
    /// The kind.
    pub code: Code,
    /// One sentence: what failed.
    pub message: String,
    /// The option's name or the file's path.
    pub subject: Option<String>,
    /// What would have been right, with its range or unit.
    pub expected: Option<String>,
    /// What came instead.
    pub received: Option<String>,
    /// What the user can do.
    pub advice: Option<String>,
    /// The error below this one.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `code` that says `message`, a sentence without a full stop.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error {
            code,
            message: message.into(),
            subject: None,
            expected: None,
            received: None,
            advice: None,
            source: None,
        }
    }

    /// Names the option or the file.
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Says what was expected and what came instead.
    pub fn with_values(mut self, expected: impl Into<String>, received: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self.received = Some(received.into());
        self
    }

    /// Says what to do.
    pub fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Keeps the error below.
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// An I/O error on `path` while doing `what` ("reading the image list"); its code follows the I/O error's kind.
    pub fn io(what: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let (code, advice) = match source.kind() {
            std::io::ErrorKind::NotFound => (Code::NotFound, "check the path"),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                (Code::PermissionDenied, "give this user the right to it, or choose another path")
            }
            _ => (Code::Io, "see the cause; a full disk or a broken mount are the usual ones"),
        };
        Error::new(code, format!("{what} failed: {source}"))
            .with_subject(path.display().to_string())
            .with_advice(advice)
            .with_source(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        f.write_str(&self.message)?;
        if let (Some(expected), Some(received)) = (&self.expected, &self.received) {
            write!(f, ": expected {expected}, received {received}")?;
        }
        if let Some(advice) = &self.advice {
            write!(f, ". {}{}", advice[..1].to_uppercase(), &advice[1..])?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Error::new(Code::Internal, format!("a tensor operation failed: {source}")).with_source(source)
    }
}

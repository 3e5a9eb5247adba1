//! The one error type of the core: what was expected, what came, and what to do.

use std::fmt;

/// A specialised result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong. The TypeScript `RkdError.code` is [`Code::as_str`]; the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// An option has a value outside its range, or two options contradict each other.
    InvalidOption,
    /// A tensor has another shape than the operation takes.
    InvalidShape,
    /// A path does not exist.
    NotFound,
    /// A path exists and may not be read or written.
    PermissionDenied,
    /// The data set as a whole cannot be used (no image, one class only, ...).
    InvalidData,
    /// An archive has an entry whose path leaves the archive, or is damaged.
    InvalidArchive,
    /// A model, checkpoint or plan file is damaged or of another version.
    InvalidArtefact,
    /// The output folder holds another run, or another process writes to it.
    OutputExists,
    /// A loss, gradient or parameter stopped being a finite number.
    NonFinite,
    /// The run was cancelled by its caller.
    Cancelled,
    /// Reading or writing failed for another reason.
    Io,
    /// A defect of this library.
    Internal,
}

impl Code {
    /// The stable text of the code, as users see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidOption => "ERR_INVALID_OPTION",
            Code::InvalidShape => "ERR_INVALID_SHAPE",
            Code::NotFound => "ERR_NOT_FOUND",
            Code::PermissionDenied => "ERR_PERMISSION_DENIED",
            Code::InvalidData => "ERR_INVALID_DATA",
            Code::InvalidArchive => "ERR_INVALID_ARCHIVE",
            Code::InvalidArtefact => "ERR_INVALID_ARTEFACT",
            Code::OutputExists => "ERR_OUTPUT_EXISTS",
            Code::NonFinite => "ERR_NON_FINITE",
            Code::Cancelled => "ERR_CANCELLED",
            Code::Io => "ERR_IO",
            Code::Internal => "ERR_INTERNAL",
        }
    }
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

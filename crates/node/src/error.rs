//! Errors cross as tagged values; `src/errors.ts` makes an `RkdError` of them.

use std::error::Error as _;

use napi_derive::napi;
use rkd_core::Error;

/// The core's error, field by field.
#[napi(object)]
#[derive(Clone)]
pub struct BindingError {
    /// The stable code, for example `ERR_INVALID_OPTION`.
    #[napi(ts_type = "RkdErrorCode")]
    pub code: String,
    /// One sentence: what failed.
    pub message: String,
    /// The option's name or the file's path.
    pub subject: Option<String>,
    /// What would have been right.
    pub expected: Option<String>,
    /// What came instead.
    pub received: Option<String>,
    /// What to do.
    pub advice: Option<String>,
    /// The texts of the errors below, outermost first.
    pub causes: Vec<String>,
}

impl From<Error> for BindingError {
    fn from(error: Error) -> Self {
        let mut causes = Vec::new();
        let mut below = error.source();
        while let Some(cause) = below {
            causes.push(cause.to_string());
            below = cause.source();
        }
        BindingError {
            code: error.code.as_str().to_string(),
            message: error.message,
            subject: error.subject,
            expected: error.expected,
            received: error.received,
            advice: error.advice,
            causes,
        }
    }
}

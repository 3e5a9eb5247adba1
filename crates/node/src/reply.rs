//! Replies to JavaScript, and the JSON that comes and goes. `native.d.cts` beside this crate's manifest types both: a `Json<T>`
//! is the text of a `T`, which only `JSON.stringify` of a `T` makes and `JSON.parse` reads.

use napi_derive::napi;
use rkd_core::{Code, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::BindingError;

/// The reply to a command: exactly one of the two.
#[napi(object)]
pub struct BindingReply {
    /// The result as JSON.
    pub value: Option<String>,
    /// Why there is none.
    pub error: Option<BindingError>,
}

impl<T: Serialize> From<Result<T>> for BindingReply {
    fn from(result: Result<T>) -> Self {
        let text = result.and_then(|value| {
            serde_json::to_string(&value)
                .map_err(|e| Error::new(Code::Internal, "a report has no JSON form").with_source(e))
        });
        match text {
            Ok(text) => BindingReply { value: Some(text), error: None },
            Err(error) => BindingReply { value: None, error: Some(error.into()) },
        }
    }
}

/// What a user wrote, for the core to read.
pub fn value(text: &str) -> Result<Value> {
    written(text)
}

/// What TypeScript or the core wrote.
pub fn written<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(Code::Internal, format!("what crossed the binding has another form: {e}")).with_source(e)
    })
}

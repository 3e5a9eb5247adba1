//! `checkOption`: what constructors ask, on the calling thread.

use napi_derive::napi;
use rkd_core::input;
use rkd_core::options::check::{OptionPart, check};

use crate::panics::guard;
use crate::reply::{BindingReply, value};
use crate::worker;

/// Checks a part of the options, which errors call `name`, and gives it with the defaults that do not depend on others.
#[napi(ts_args_type = "part: OptionPart, name: string, given: Json<unknown>", ts_return_type = "Reply<unknown>")]
pub fn check_option(part: String, name: String, given: String) -> BindingReply {
    let part = || input::read::<OptionPart>("part", &part.clone().into());
    guard(|| check(part()?, &name, value(&given)?)).into()
}

/// The path of what `given`, which errors call `name`, names: a path, or a `file:` URL.
#[napi(ts_args_type = "name: string, given: Json<unknown>", ts_return_type = "Reply<string>")]
pub fn path_of(name: String, given: String) -> BindingReply {
    guard(|| Ok(input::read::<input::PathText>(&name, &value(&given)?)?.0)).into()
}

/// What of `choices` was probably meant by `word`.
#[napi]
pub fn likely(word: String, choices: Vec<String>) -> Option<String> {
    rkd_core::spelling::likely(&word, &choices.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The folder of decoded images where none is named.
#[napi]
pub fn default_cache() -> String {
    rkd_core::options::default_cache().display().to_string()
}

/// The instruction set of the kernels: the widest of this processor, or that of `RKD_ISA`.
#[napi(ts_return_type = "Reply<string>")]
pub fn instruction_set() -> BindingReply {
    guard(worker::instruction_set).into()
}

/// What memory this process may take.
#[napi(ts_return_type = "Json<MemoryLimits>")]
pub fn memory_limits() -> napi::Result<String> {
    let limits = serde_json::to_string(&rkd_core::limits::Limits::now());
    limits.map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// What there is of CUDA, and whether it can be used.
#[napi(ts_return_type = "Json<CudaReport>")]
pub fn cuda_devices() -> napi::Result<String> {
    let report = serde_json::to_string(&rkd_core::devices::cuda());
    report.map_err(|error| napi::Error::from_reason(error.to_string()))
}

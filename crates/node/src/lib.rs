//! The napi-rs binding: conversions, one job thread, error mapping; no arithmetic.
//!
//! ```text
//! TypeScript --a method of BindingSession--> worker thread `rkd-session` (owns the core's Session) --> promise of a reply
//!            <--next() promises--------  the mailbox of events
//!            --BindingModel.embed------> worker thread `rkd-model` (owns a ServedModel, which handles share) --> promise of rows
//! ```
//! Rules that keep a host process alive: nothing here unwinds into Node (a panic becomes the reply `ERR_INTERNAL`);
//! no `async fn` borrows a class instance (a worker_thread that ends would free it under the future), every promise
//! owns clones of what it needs; no call blocks the JavaScript thread except `evaluateLoss`, which is
//! arithmetic, and `checkOption`.

mod background;
mod error;
mod events;
mod lock;
mod losses;
mod metrics;
mod model;
mod options;
mod panics;
mod ranks;
mod reply;
mod session;
mod worker;

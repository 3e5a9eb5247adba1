//! The napi-rs binding: conversions, one job thread, error mapping; no arithmetic.
//!
//! ```text
//! TypeScript --send(JSON command)--> worker thread `rkd-session` (owns the core's Session) --> promise of a reply
//!            <--next() promises-----  bounded event queue
//! ```
//! Rules that keep a host process alive: nothing here unwinds into Node (a panic becomes the reply `ERR_INTERNAL`);
//! no `async fn` borrows a class instance (a worker_thread that ends would free it under the future), every promise
//! owns clones of what it needs; no call blocks the JavaScript thread except `evaluateLoss`, which is arithmetic.

mod command;
mod error;
mod events;
mod lock;
mod losses;
mod panics;
mod session;
mod worker;

//! A panic is a defect of this library: it becomes an error with the place it happened at, and never ends the process.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use rkd_core::{Code, Error, Result};

thread_local! {
    /// Where the last panic of this thread happened, while [`guard`] is on its stack.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    static GUARDED: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs `work`; a panic in it becomes an `ERR_INTERNAL`.
pub fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    install_hook();
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    outcome.unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_string())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_string());
        let place = PLACE.take().map_or(String::new(), |place| format!(" (at {place})"));
        Err(Error::new(Code::Internal, format!("a defect in rkd: {text}{place}"))
            .with_advice("please report it with the text above and the plan.json of the run"))
    })
}

/// Keeps guarded panics off standard error, where they would garble a progress line; others print as usual.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if GUARDED.with_borrow(|guarded| *guarded) {
                PLACE.set(panic.location().map(ToString::to_string));
            } else {
                previous(panic);
            }
        }));
    });
}

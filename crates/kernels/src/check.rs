//! The one shape check: a slice must have the length its geometry says.

/// Panics, naming operation and slice, unless `got` is `expected`: the caller's buffers contradict its geometry.
#[track_caller]
pub(crate) fn length(operation: &str, name: &str, got: usize, expected: usize) {
    assert!(got == expected, "{operation}: `{name}` must have {expected} elements and has {got}");
}

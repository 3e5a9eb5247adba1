//! How many threads decoding and hashing use.

/// Threads for decoding and hashing: one a core.
pub fn decode_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

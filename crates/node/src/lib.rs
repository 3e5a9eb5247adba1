//! The napi-rs binding: conversions, one job thread, error mapping; no arithmetic.

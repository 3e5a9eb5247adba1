//! Reading the golden files, from `test/golden` or the folder that `RKD_GOLDEN` names.

use std::path::PathBuf;

pub use serde_json::Value as Json;

/// The file `name`.
pub fn read(name: &str) -> Json {
    let folder = std::env::var_os("RKD_GOLDEN")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../test/golden"), PathBuf::from);
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// An array of numbers.
pub fn numbers(value: &Json) -> Vec<f64> {
    value.as_array().expect("an array of numbers").iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// `support_count` to `supportCount`.
#[allow(dead_code)] // Not every test file that shares this module needs it.
pub fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_string();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}

//! Stored vectors in every format: whatever the bytes are, they end in a table or in an error; and what is read is joined
//! and judged.
//!
//! `crates/core/tests/vectors.rs` does the same with damaged copies of real files in every test run.
#![no_main]

use std::panic;
use std::sync::LazyLock;

use rkd_core::vectors::{ImageNames, VectorOptions, join, judge, read};

mod place;

static PLACE: LazyLock<place::Place> =
    LazyLock::new(|| place::Place::new(&[("ids.txt", b"cat/1.jpg\ncat/2.jpg\ndog/3.jpg\ndog/4.jpg\n")]));

/// The readers of Arrow and Parquet assert what they read, and ours makes an error of it; libFuzzer ends at any panic.
fn let_readers_assert() {
    let end = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map_or("", |place| place.file());
        if !["/arrow-", "/parquet-"].iter().any(|library| file.contains(library)) {
            end(panic);
        }
    }));
}

libfuzzer_sys::fuzz_target!(init: let_readers_assert(), |bytes: &[u8]| {
    let Some((&way, bytes)) = bytes.split_last() else { return };
    // A name that decides between kinds of text, and ids from beside or from inside.
    let name = ["a.csv", "a.tsv", "a.jsonl", "a"][usize::from(way % 4)];
    PLACE.write(name, bytes);
    let ids = (way & 4 != 0).then(|| PLACE.data().join("ids.txt"));
    if let Ok(table) = read(&PLACE.data().join(name), &VectorOptions { ids, ..Default::default() }) {
        assert_eq!(table.rows.len(), table.len() * table.dimension);
        let _ = judge(&table);
        let paths = ["cat/1.jpg", "cat/2.jpg", "dog/3.jpg"].map(String::from);
        let given = ["1", "2", "3"].map(String::from);
        let _ = join(&table, ImageNames { ids: &paths, paths: None, given: Some(&given) }, way & 8 != 0);
    }
});

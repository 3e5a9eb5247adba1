//! Stored vectors in every format: what is read, what is refused, and that no file does harm.
//!
//! The files are made by `vectors/make.py`, which says what stands in them.

use std::fs;
use std::path::{Path, PathBuf};

use rkd_core::artefact::npy;
use rkd_core::artefact::tensors::TensorFile;
use rkd_core::random::Random;
use rkd_core::tensor::HostTensor;
use rkd_core::vectors::{self, JoinRule, VectorElement, VectorFormat, VectorOptions, VectorTable};
use rkd_core::{Code, Result};
use serde_json::json;
use tempfile::TempDir;

const IDS: [&str; 4] = ["cat/1.jpg", "cat/2.jpg", "dog/ä.jpg", "dog/4.jpg"];
const ROWS: [f32; 12] = [0.5, -1.0, 2.0, 0.25, 3.0, -0.125, 8.0, 0.0, 1.5, -4.0, 0.75, 6.0];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read(name: &str) -> Result<VectorTable> {
    vectors::read(&folder().join(name), &VectorOptions::default())
}

fn options(id: &str, vector: &str) -> VectorOptions {
    let given = |name: &str| (!name.is_empty()).then(|| name.to_string());
    VectorOptions { id_column: given(id), vector_column: given(vector), ..VectorOptions::default() }
}

/// What reading says of it, which must name the file.
fn error(name: &str, options: &VectorOptions) -> String {
    let error = vectors::read(&folder().join(name), options).expect_err(name);
    let text = error.to_string();
    assert!(text.contains(name) || error.code == Code::InvalidOption, "{text}");
    text
}

fn says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in: {text}"));
}

/// A file of its own in a folder of its own.
fn written(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn every_format_gives_the_same_ids_rows_and_hash() {
    use VectorElement::{BFloat16, Float16, Float32, Float64, Text};
    use VectorFormat::{Arrow, Csv, Jsonl, Npy, Npz, Parquet, Safetensors};
    let table = [
        ("float16.npy", Npy, Float16),
        ("float32.npy", Npy, Float32),
        ("float64.npy", Npy, Float64),
        ("version2.npy", Npy, Float32),
        ("stored.npz", Npz, Float32),
        ("deflated.npz", Npz, Float64),
        ("unnamed.npz", Npz, Float32),
        ("f16.safetensors", Safetensors, Float16),
        ("bf16.safetensors", Safetensors, BFloat16),
        ("f64.safetensors", Safetensors, Float64),
        ("lists.csv", Csv, Text),
        ("lists.tsv", Csv, Text),
        ("columns.csv", Csv, Text),
        ("printed.csv", Csv, Text),
        ("lines.jsonl", Jsonl, Text),
        ("plain.parquet", Parquet, Float32),
        ("snappy.parquet", Parquet, Float32),
        ("gzip.parquet", Parquet, Float64),
        ("zstd.parquet", Parquet, Float32),
        ("lz4.parquet", Parquet, Float16),
        ("split.parquet", Parquet, Float32),
        ("columns.parquet", Parquet, Float32),
        ("holes.parquet", Parquet, Float64),
        ("fixed.arrow", Arrow, Float32),
        ("half.arrow", Arrow, Float16),
        ("columns.arrow", Arrow, Float32),
        ("large.arrows", Arrow, Float64),
        ("words.arrows", Arrow, Float32),
        ("view.arrows", Arrow, Float32),
        ("table.feather", Arrow, Float32),
    ];
    let hash = read(table[0].0).unwrap().hash;
    for (name, format, element) in table {
        let table = read(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((&table.ids[..], table.dimension), (&IDS.map(String::from)[..], 3), "{name}");
        assert_eq!(table.rows, ROWS, "{name}");
        assert_eq!((table.format, table.element, &table.hash), (format, element, &hash), "{name}");
    }
}

#[test]
fn what_embed_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tensor = HostTensor { shape: vec![4, 3], data: ROWS.to_vec() };
    let names = json!({ "ids": IDS, "classes": ["cat", "cat", "dog", "dog"] });
    npy::write(&at("a.npy"), &tensor).unwrap();
    fs::write(at("a.npy.ids.json"), names.to_string()).unwrap();
    TensorFile { document: names, tensors: [("embeddings".to_string(), tensor)].into() }
        .save(&at("a.safetensors"))
        .unwrap();
    let expected = read("float32.npy").unwrap().hash;
    for name in ["a.npy", "a.safetensors"] {
        assert_eq!(vectors::read(&at(name), &VectorOptions::default()).unwrap().hash, expected, "{name}");
    }
    // Its hash is compared: a bit that has flipped is found.
    let mut bytes = fs::read(at("a.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(at("a.safetensors"), bytes).unwrap();
    let text = vectors::read(&at("a.safetensors"), &VectorOptions::default()).unwrap_err().to_string();
    says(&text, &["its bytes are not those that were written", "expected BLAKE3"]);
}

#[test]
fn ids_come_from_a_file_of_their_own_where_it_is_given() {
    for ids in ["float16.ids.txt", "version2.npy.ids.json"] {
        for name in [
            "whole.parquet",
            "columns.arrow",
            "columns.csv",
            "lines.jsonl",
            "stored.npz",
            "none.npy",
            "f16.safetensors",
        ] {
            let options = VectorOptions { ids: Some(folder().join(ids)), ..Default::default() };
            let table = vectors::read(&folder().join(name), &options).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((&table.ids[..], &table.rows[..]), (&IDS.map(String::from)[..], &ROWS[..]), "{name}");
        }
    }
    let (_folder, few) = written("ids.txt", b"a\nb\n");
    let options = VectorOptions { ids: Some(few), ..Default::default() };
    for name in
        ["whole.parquet", "columns.arrow", "columns.csv", "lines.jsonl", "stored.npz", "none.npy", "f16.safetensors"]
    {
        says(&error(name, &options), &["there is not one id for each vector", "received 2", "ids.txt"]);
    }
    let options = VectorOptions { ids: Some("nowhere.txt".into()), ..Default::default() };
    assert_eq!(vectors::read(&folder().join("none.npy"), &options).unwrap_err().code, Code::NotFound);
}

#[test]
fn whole_numbers_are_ids_too() {
    assert_eq!(read("whole.parquet").unwrap().ids, ["1", "2", "3", "1099511627776"]);
}

#[test]
fn rows_without_a_vector_are_left_out_and_told() {
    for name in ["holes.parquet", "holes.arrows"] {
        let table = read(name).unwrap();
        assert_eq!(table.rows, ROWS, "{name}");
        assert_eq!(table.warnings, ["rows without a vector, left out: 2 (the first is x)"], "{name}");
    }
}

#[test]
fn what_is_not_read_is_refused_with_the_way_out() {
    let none = VectorOptions::default();
    for (name, parts) in [
        ("fortran.npy", &["<f4 [4, 3], in Fortran's order", "ascontiguousarray"][..]),
        ("big-endian.npy", &["the array holds no vectors", ">f4 [4, 3]"]),
        ("cube.npy", &["<f4 [1, 4, 3]"]),
        ("none.npy", &["have no ids", "none.npy.ids.json, none.ids.json, none.npy.ids.txt, none.ids.txt"]),
        ("objects.npz", &["no column holds the ids", "ids (objects, pickled [4])"]),
        (
            "many.parquet",
            &["several columns could hold the vectors", "a (list of floats), b (list of floats)", "vectorColumn"],
        ),
        ("brotli.parquet", &["packed with BROTLI", "zstd or snappy"]),
        ("delta.parquet", &["delta encoded", "plain or with a dictionary"]),
        ("zstd.arrow", &["expected LZ4, or not packed", "ZSTD", "as Parquet"]),
    ] {
        says(&error(name, &none), parts);
    }
    says(&error("many.parquet", &options("", "c")), &["vectorColumn", "no such column", "a (list of floats)"]);
    says(&error("plain.parquet", &options("label", "path")), &["\"path\" cannot be that", "received string"]);
    let table = vectors::read(&folder().join("many.parquet"), &options("id", "b")).unwrap();
    assert_eq!(table.rows, ROWS);
}

#[test]
fn files_of_other_kinds_are_called_by_their_names() {
    let none = VectorOptions::default();
    for (name, bytes, parts) in [
        ("a.csv", &b""[..], &["an empty file"][..]),
        ("a.feather", b"FEA1\0\0", &["a Feather file of version 1", "write_feather"]),
        ("a.db", b"SQLite format 3\0", &["an SQLite database", "from code"]),
        ("a.h5", b"\x89HDF\r\n\x1a\n\0\0", &["an HDF5 file", "np.savez"]),
        ("a.csv.gz", b"\x1f\x8b\x08", &["a gzip archive", "Unpack"]),
        ("a.pkl", b"\x80\x04\x95", &["a pickle of Python"]),
        ("a.json", b"[{\"id\": 1}]", &["one JSON array", "one object a line"]),
        ("a.csv.html", b"<!DOCTYPE html>", &["HTML"]),
        ("a.bin", b"\0\x01\x02", &["no kind of file that is known here"]),
        ("a.parquet", b"PAR1\0\0\0\0PAR1", &["reading it failed"]),
        ("a.arrow", b"ARROW1\0\0ARROW1", &["not as long as its header says"]),
    ] {
        let (_folder, path) = written(name, bytes);
        let error = vectors::read(&path, &none).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact, "{name}");
        says(&error.to_string(), parts);
    }
    says(&vectors::read(&folder(), &none).unwrap_err().to_string(), &["received a folder", "from code"]);
    assert_eq!(vectors::read(Path::new("nowhere.npy"), &none).unwrap_err().code, Code::NotFound);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_waited_for() {
    let text = vectors::read(Path::new("/dev/zero"), &VectorOptions::default()).unwrap_err().to_string();
    says(&text, &["a device or a pipe"]);
}

/// A header that `numpy.save` could write, and `values` bytes.
fn npy_of(descr: &str, shape: &str, values: usize) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &vec![0; values]].concat()
}

#[test]
fn headers_that_promise_too_much_are_refused_before_anything_is_allocated() {
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    let npz = |array: &[u8]| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in [("vectors.npy", array), ("ids.npy", &npy_of("<U1", "2,", 8))] {
            zip.start_file(name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated))
                .unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let tensor = |shape: &str, end: &str| {
        let header = format!(
            "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[0,{end}]}},\"__metadata__\":{{\"ids\":\"[1]\"}}}}"
        );
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat()
    };
    let mut body = fs::read(folder().join("view.arrows")).unwrap();
    body[4..8].copy_from_slice(&i32::MAX.to_le_bytes());
    let mut footer = fs::read(folder().join("plain.parquet")).unwrap();
    let end = footer.len() - 8;
    footer[end..end + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut index = fs::read(folder().join("fixed.arrow")).unwrap();
    let end = index.len() - 10;
    index[end..end + 4].copy_from_slice(&i32::MAX.to_le_bytes());
    for (name, bytes, parts) in [
        ("a.npy", npy_of("<f4", "1000000000000, 1000000", 8), &["not as long as its header says"][..]),
        ("a.npy", npy_of("<f4", "0, 4611686018427387904", 0), &["there is not one id for each vector"]),
        ("a.npy", npy_of("<f4", "2, 3", 20), &["not as long as its header says"]),
        ("a.npy", npy_of("<f4", "2, 3", 28), &["not as long as its header says"]),
        ("a.npz", npz(&npy_of("<f4", "4000000000, 60000", 8)), &["not as long as its header says"]),
        ("a.npz", npz(&npy_of("<f4", "3, 1", 12)), &["there is not one id for each vector"]),
        ("a.safetensors", tensor("1,1000000000000", "4000000000000"), &["not as long as its header says"]),
        ("a.safetensors", tensor("1,2", "4"), &["reading it failed"]),
        (
            "a.safetensors",
            [&[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0][..], b"{\"a\":1}"].concat(),
            &["the header promises too much"],
        ),
        ("a.arrows", body, &["a message's header promises too much"]),
        ("a.parquet", footer, &["reading it failed"]),
        ("a.arrow", index, &["not as long as its header says"]),
    ] {
        let (_folder, path) = written(name, &bytes);
        fs::write(path.with_extension("ids.txt"), "a\nb\n").unwrap();
        let error = vectors::read(&path, &VectorOptions::default()).unwrap_err();
        says(&error.to_string(), parts);
    }
}

#[test]
fn packed_buffers_that_promise_too_much_are_refused() {
    // The length in front of each packed buffer, wherever it stands, becomes a huge one.
    let whole = fs::read(folder().join("half.arrow")).unwrap();
    let mut refused = 0;
    for place in (0..whole.len() - 8).step_by(8) {
        let mut bytes = whole.clone();
        bytes[place..place + 8].copy_from_slice(&(1i64 << 60).to_le_bytes());
        let (_folder, path) = written("a.arrow", &bytes);
        let text =
            vectors::read(&path, &VectorOptions::default()).map(|table| table.hash).unwrap_or_else(|e| e.to_string());
        refused += usize::from(text.contains("a packed buffer promises too much"));
    }
    assert!(refused > 0, "no place held the length of a packed buffer");
}

#[test]
fn damaged_files_end_in_a_table_or_in_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut names: Vec<PathBuf> = fs::read_dir(self::folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending != "py" && ending != "md"));
    names.sort();
    let mut errors = 0;
    for original in names {
        let whole = fs::read(&original).unwrap();
        let path = folder.path().join(original.file_name().unwrap());
        let ids = folder.path().join("ids.txt");
        fs::write(&ids, IDS.join("\n")).unwrap();
        let mut attempt = |bytes: &[u8], options: &VectorOptions| {
            fs::write(&path, bytes).unwrap();
            match vectors::read(&path, options) {
                Ok(table) => {
                    assert_eq!(table.rows.len(), table.len() * table.dimension);
                    let _ = vectors::judge(&table);
                }
                Err(error) => {
                    assert_ne!(error.code, Code::Internal, "{error}");
                    errors += 1;
                }
            }
        };
        let with_ids = VectorOptions { ids: Some(ids), ..Default::default() };
        let mut random = Random::keyed(7, 0, 0, &original.file_name().unwrap().to_string_lossy());
        for place in 0..whole.len() {
            let options = if place % 4 == 0 { &with_ids } else { &VectorOptions::default() };
            if place % 5 == 0 {
                attempt(&whole[..place], options);
            }
            if place % 2 == 1 {
                continue;
            }
            let mut bytes = whole.clone();
            match random.below(2) {
                0 => bytes[place] ^= 1 << random.below(8),
                _ => bytes[place] = [0, 0xff][random.below(2)],
            }
            attempt(&bytes, options);
        }
        fs::remove_file(&path).unwrap();
    }
    assert!(errors > 1000, "{errors}");
}

#[test]
fn a_table_is_joined_and_judged() {
    let table = read("zstd.parquet").unwrap();
    let images = ["cat/1.png", "cat/2.png", "dog/4.png", "dog/ä.png"].map(str::to_string);
    let names = vectors::ImageNames { ids: &images, paths: None, given: None };
    let join = vectors::join(&table, names, false).unwrap();
    assert_eq!(
        (join.report.rule, &join.rows[..]),
        (JoinRule::PathWithoutEnding, &[Some(0), Some(1), Some(3), Some(2)][..])
    );
    let summary = serde_json::to_value(vectors::judge(&read("f16.safetensors").unwrap()).unwrap()).unwrap();
    assert_eq!(
        (&summary["format"], &summary["element"], &summary["vectors"]),
        (&json!("safetensors"), &json!("float16"), &json!(4))
    );
    assert_eq!(summary["normalized"], json!(false));
    let report = serde_json::to_value(&join.report).unwrap();
    assert_eq!((&report["rule"], &report["imagesWithoutVector"]), (&json!("pathWithoutEnding"), &json!(0)));
}

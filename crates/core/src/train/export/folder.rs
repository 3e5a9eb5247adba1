//! The folder of an export: its own alone, and known as one by the report in it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::report::{ExportReport, ExportedFile};
use crate::artefact::file::write_atomically;
use crate::error::{Code, Error, Result};
use crate::input::write as to_json;

/// The report, by which a folder is known as an export's. It is written last.
pub const REPORT: &str = "export.json";

/// A folder that is being written.
pub(super) struct Folder {
    root: PathBuf,
    files: Vec<ExportedFile>,
    /// The files of the export that this one replaces.
    earlier: Vec<String>,
}

impl Folder {
    /// Readies the folder at `root`, which is made where there is none. An earlier export in it stays whole until files take
    /// the places of its own.
    ///
    /// # Errors
    /// `ERR_OUTPUT_EXISTS` for a folder that holds an export that may not be replaced, or anything else.
    pub(super) fn open(root: &Path, overwrite: bool) -> Result<Folder> {
        let failed = |e| Error::io("making the folder", root, e);
        fs::create_dir_all(root).map_err(failed)?;
        let exists = |what: String, advice: &str| {
            Err(Error::new(Code::OutputExists, what).with_subject(root.display().to_string()).with_advice(advice))
        };
        let first = fs::read_dir(root).map_err(failed)?.flatten().map(|entry| entry.file_name()).min();
        let earlier = match (first, files_of(root)) {
            (None, _) => Vec::new(),
            (Some(_), Some(files)) if overwrite => files,
            (Some(_), Some(_)) => {
                let advice = "choose another folder, or allow it to be replaced by overwrite: true";
                return exists("the folder already holds an export".into(), advice);
            }
            (Some(name), None) => {
                let name = name.to_string_lossy();
                return exists(
                    format!("the folder holds {name}, and no export"),
                    "give the export a folder of its own",
                );
            }
        };
        Ok(Folder { root: root.to_path_buf(), files: Vec::new(), earlier })
    }

    /// Where the file `name` is.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a file, whole or not at all. Gives its size.
    pub(super) fn write(&mut self, name: &str, content: &[u8]) -> Result<u64> {
        self.write_with(name, |path| write_atomically(path, |out| out.write_all(content)))
    }

    /// Writes a JSON file, laid out for people.
    pub(super) fn write_json(&mut self, name: &str, value: &Value) -> Result<u64> {
        self.write(name, format!("{value:#}\n").as_bytes())
    }

    /// Writes a file by `write`. Gives its size.
    pub(super) fn write_with(&mut self, name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<u64> {
        let path = self.place(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io("making the folder", folder, e))?;
        }
        write(&path)?;
        let bytes = fs::metadata(&path).map_err(|e| Error::io("reading", &path, e))?.len();
        self.files.push(ExportedFile { path: name.to_string(), bytes });
        Ok(bytes)
    }

    /// Writes the report, without what is of this machine alone, and removes what is left of an earlier export. Gives all
    /// files.
    pub(super) fn close(mut self, report: &ExportReport) -> Result<Vec<ExportedFile>> {
        let mut document = to_json(report)?;
        if let Value::Object(fields) = &mut document {
            fields.retain(|name, _| !matches!(&name[..], "out" | "model" | "missed"));
            fields.insert("rkd".into(), env!("CARGO_PKG_VERSION").into());
            fields.insert("files".into(), to_json(&self.files)?);
        }
        self.write_json(REPORT, &document)?;
        let is_old = |name: &&String| self.files.iter().all(|file| file.path != **name);
        for path in self.earlier.iter().filter(is_old).map(|name| self.root.join(name)) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("replacing", &path, e)),
                _ => {}
            }
        }
        Ok(self.files)
    }
}

/// The files of the export in the folder at `root`; nothing where there is none. Only names within the folder count.
fn files_of(root: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(root.join(REPORT)).ok()?;
    let report: Value = serde_json::from_str(&text).ok()?;
    report["rkd"].as_str()?;
    let names = report["files"].as_array()?.iter().filter_map(|file| file["path"].as_str());
    let within = |name: &&str| Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    Some(names.filter(within).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::ExportTarget;

    fn report() -> ExportReport {
        ExportReport {
            to: ExportTarget::Onnx,
            out: "/secret/out".into(),
            model: "/secret/model".into(),
            files: Vec::new(),
            student: None,
            student_bytes: 7,
            models: Vec::new(),
            missed: Vec::new(),
        }
    }

    #[test]
    fn an_export_is_replaced_only_where_it_may_be_and_nothing_else_goes() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("a/b");
        let mut folder = Folder::open(&out, false).unwrap();
        assert_eq!(folder.write("onnx/model.onnx", b"123").unwrap(), 3);
        let files = folder.close(&report()).unwrap();
        assert_eq!(files.iter().map(|file| &file.path[..]).collect::<Vec<_>>(), ["onnx/model.onnx", REPORT]);
        let text = fs::read_to_string(out.join(REPORT)).unwrap();
        assert!(!text.contains("secret") && text.contains("\"studentBytes\": 7"), "{text}");
        fs::write(out.join("mine.txt"), "mine").unwrap();
        assert_eq!(Folder::open(&out, false).err().unwrap().code, Code::OutputExists);
        let mut folder = Folder::open(&out, true).unwrap();
        assert!(out.join("onnx/model.onnx").exists(), "until the new one is whole");
        folder.write("model.onnx", b"12").unwrap();
        folder.close(&report()).unwrap();
        assert!(
            !out.join("onnx/model.onnx").exists() && out.join("model.onnx").exists() && out.join("mine.txt").exists()
        );
        // Without its report it is nobody's export.
        fs::remove_file(out.join(REPORT)).unwrap();
        let error = Folder::open(&out, true).err().unwrap();
        assert!(error.to_string().contains("holds mine.txt"), "{error}");
    }

    #[test]
    fn a_report_cannot_name_files_outside() {
        let root = tempfile::tempdir().unwrap();
        let (out, other) = (root.path().join("out"), root.path().join("other"));
        fs::create_dir(&out).unwrap();
        fs::write(&other, "stays").unwrap();
        let text = serde_json::json!({ "rkd": "0", "files": [{ "path": "../other" }, { "path": other }] });
        fs::write(out.join(REPORT), text.to_string()).unwrap();
        Folder::open(&out, true).unwrap().close(&report()).unwrap();
        assert!(other.exists());
    }
}

//! What a file is, by its first bytes: every reader of models and weights asks `read`, whatever the file's name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Code, Error, Result};

/// A kind of file that something here reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A header of JSON and the tensors behind it.
    Safetensors,
    /// A ZIP archive, as PyTorch writes it since 1.6; see [`super::pth`].
    Zip,
    /// Pickles and the storages behind them, as PyTorch wrote before 1.6.
    Pickles,
}

/// The largest file that is read, in bytes: the weights of the largest network with an optimiser's state, six times.
const LARGEST_FILE: u64 = 64 << 30;

/// What is read here, for messages.
const READ: &str = "safetensors, or a checkpoint of PyTorch (.pth)";

/// The beginning of a file that [`of`] looks at.
const HEAD: usize = 4096;

const SAVE_TENSORS: &str = "save the tensors, in Python: torch.save(model.state_dict(), \"weights.pth\")";
const SAVE_LOADED: &str = "load it where it comes from, and save its tensors, in Python: safetensors.torch.save_file or \
                           torch.save of a dictionary of tensors";
const DOWNLOAD: &str = "open the address in a browser, look at what it says, and download the file itself";
const UNPACK: &str = "unpack it, and give the file of weights in it";

/// Beginnings of files of other kinds, what they are, and the way out.
const FOREIGN: [(&[u8], &str, &str); 17] = [
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, MATLAB)", SAVE_LOADED),
    (b"GGUF", "a GGUF file of llama.cpp", SAVE_LOADED),
    (b"\x93NUMPY", "an array of NumPy", "a model is a model.safetensors; where these are embeddings, give their model"),
    (b"MATLAB 5.0", "a MATLAB file", SAVE_LOADED),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file it stands for", "fetch the file: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive", UNPACK),
    (b"BZh", "a bzip2 archive", UNPACK),
    (b"\xfd7zXZ", "an xz archive", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"\x89PNG", "an image", "choose a file of weights"),
    (b"\xff\xd8\xff", "an image", "choose a file of weights"),
    (b"\x80\x02\x63", PICKLED, SAVE_TENSORS),
    (b"\x80\x02", PICKLED, SAVE_TENSORS),
    (b"\x80\x03", PICKLED, SAVE_TENSORS),
    (b"\x80\x04", PICKLED, SAVE_TENSORS),
    (b"\x80\x05", PICKLED, SAVE_TENSORS),
];
const PICKLED: &str = "a bare pickle of Python, not a file of torch.save";

/// The bytes of a file, which is of a kind that is read here.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` for what is no file, larger than [`LARGEST_FILE`] or of another kind, before all of it is
/// read; those of reading.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io("reading", path, e);
    // What is no file may not be opened at all: a pipe without a writer would wait for ever.
    let about = std::fs::metadata(path).map_err(failed)?;
    let length = about.len();
    let refuse = |received: String| {
        Error::new(Code::InvalidArtefact, "no model or weights can be read from this")
            .with_subject(path.display().to_string())
            .with_values(format!("a file of at most {} GiB", LARGEST_FILE >> 30), received)
            .with_advice("give a model.safetensors or a file of weights")
    };
    if !about.is_file() {
        return Err(refuse(if about.is_dir() { "a folder" } else { "a device or a pipe" }.into()));
    }
    if length > LARGEST_FILE {
        return Err(refuse(format!("{} GiB", length >> 30)));
    }
    let mut file = File::open(path).map_err(failed)?.take(length);
    let mut bytes = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut bytes).map_err(failed)?;
    of(&bytes, length).map_err(|error| error.with_subject(path.display().to_string()))?;
    let rest = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(bytes.len());
    bytes.try_reserve_exact(rest).map_err(|_| refuse(format!("{} MiB, for which there is no memory", length >> 20)))?;
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The kind of a file of `length` bytes that begins with `head`.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` for a kind that is not read here: it says which one, and the way out.
pub(super) fn of(head: &[u8], length: u64) -> Result<Kind> {
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Kind::Zip);
    }
    // Its first pickle is a magic number of ten bytes.
    if head.starts_with(b"\x80\x02\x8a\x0a") {
        return Ok(Kind::Pickles);
    }
    if let Some((_, what, advice)) = FOREIGN.iter().find(|(beginning, ..)| head.starts_with(beginning)) {
        return Err(foreign(what, advice));
    }
    if let Some((header, rest)) = head.split_first_chunk::<8>().filter(|(_, rest)| rest.first() == Some(&b'{')) {
        let end = u64::from_le_bytes(*header).saturating_add(8);
        if end <= length {
            return Ok(Kind::Safetensors);
        }
        if rest.starts_with(b"{\"") {
            let error = Error::new(Code::InvalidArtefact, "the safetensors file is cut short");
            return Err(error
                .with_values(format!("a header of {end} bytes at least"), format!("{length} bytes in all"))
                .with_advice("download or copy it again"));
        }
    }
    Err(unusual(head, length))
}

/// The error for a file that no beginning of a few bytes tells.
fn unusual(head: &[u8], length: u64) -> Error {
    if length == 0 {
        return foreign("an empty file", "download or copy it again");
    }
    if head.iter().all(|&byte| byte == 0) {
        return foreign("a file of zeros, an interrupted download perhaps", "download or copy it again");
    }
    if head.get(4..8) == Some(b"TFL3") {
        return foreign("a model of TensorFlow Lite", SAVE_LOADED);
    }
    if head.get(257..262) == Some(b"ustar") {
        let old = head.starts_with(b"storages") || head.starts_with(b"pickle\0");
        return match old {
            true => foreign(
                "a checkpoint of PyTorch before 0.1.10, in a tar archive",
                "save it anew, in Python: torch.save(torch.load(path), \"weights.pth\")",
            ),
            false => foreign("a tar archive", UNPACK),
        };
    }
    if let [8, 1, 0x12, ..] = head {
        return foreign("a SavedModel of TensorFlow", SAVE_LOADED);
    }
    if starts_as_onnx(head) {
        return foreign(
            "an ONNX model, which can be a teacher (--teacher) and nothing else",
            "for weights save the tensors of the network it was exported from, in Python: torch.save(model.state_dict(), \
             \"weights.pth\")",
        );
    }
    text(head).unwrap_or_else(|| foreign("no kind of file that is known here", SAVE_TENSORS))
}

/// Whether `head` is the beginning of ONNX's ModelProto: ir_version, then one of its other fields.
fn starts_as_onnx(head: &[u8]) -> bool {
    matches!(head, [8, 2..=63, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72, ..])
}

/// Whether a file is an ONNX model, by its name or its first bytes.
pub fn is_onnx(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    let mut head = [0; 3];
    let named = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
    named || File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok_and(|()| starts_as_onnx(&head))
}

/// The error for a text.
fn text(head: &[u8]) -> Option<Error> {
    let whole = match std::str::from_utf8(head) {
        Ok(text) => text,
        // Cut in the middle of a letter.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let text = whole.trim_start_matches('\u{feff}').trim_start();
    if text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) {
        return None;
    }
    let lower = text.chars().take(15).collect::<String>().to_ascii_lowercase();
    Some(match () {
        () if ["<!doctype html", "<html", "<head"].iter().any(|tag| lower.starts_with(tag)) => {
            foreign("a web page (HTML), not the file it leads to", DOWNLOAD)
        }
        () if lower.starts_with("<?xml") || lower.starts_with('<') => {
            foreign("an XML text, a server's refusal perhaps", DOWNLOAD)
        }
        () if text.starts_with('{') && text.contains("\"weight_map\"") => {
            foreign("the index of a model in several files", "join them, in Python: safetensors.torch.save_file")
        }
        () if text.starts_with(['{', '[']) => foreign("a JSON text", "give the file of weights beside it"),
        () => {
            let line: String = text.lines().next().unwrap_or_default().chars().take(60).collect();
            foreign(&format!("a text that begins {line:?}"), DOWNLOAD)
        }
    })
}

/// The error for a file of another kind.
pub(super) fn foreign(what: &str, advice: &str) -> Error {
    Error::new(Code::InvalidArtefact, "this is no file of weights that is read here")
        .with_values(READ, what)
        .with_advice(advice)
}

/// The error where a file must be one that rkd wrote.
pub(super) fn of_rkd(mut error: Error) -> Error {
    if error.expected.as_deref() == Some(READ) {
        error.message = "this is no file that rkd wrote".into();
        error.expected = Some("a model.safetensors or the folder of a run".into());
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_called_by_its_name_with_a_way_out() {
        let tar = |name: &[u8]| [name, &vec![0; 257 - name.len()], b"ustar\x0000"].concat();
        let table: [(&[u8], &str, &str); 20] = [
            (b"", "an empty file", "again"),
            (&[0; 512], "zeros", "again"),
            (b"\x89HDF\r\n\x1a\n\0\0", "HDF5", "torch.save"),
            (b"GGUF\x03\0\0\0", "GGUF", "torch.save"),
            (b"\x93NUMPY\x01\0", "NumPy", "their model"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS", "git lfs pull"),
            (b"\x1f\x8b\x08", "gzip", "Unpack"),
            (b"\x80\x04\x95", "bare pickle", "state_dict"),
            (b"\x08\x08\x12\x07pytorch\x1a\x051.0.0:\0", "ONNX", "state_dict"),
            (b"\x08\x0a\x3a\x80", "ONNX", "state_dict"),
            (b"\x08\x01\x12\x80", "TensorFlow", "save_file"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite", "save_file"),
            (b"\n <!DOCTYPE html><html>", "web page", "browser"),
            (b"\xef\xbb\xbf<HTML>", "web page", "browser"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "XML", "browser"),
            (b"{\"metadata\": {}, \"weight_map\": {}}", "several files", "save_file"),
            (b"{\"architectures\": []}", "JSON", "beside it"),
            ("404: Not Found ä".as_bytes(), "404: Not Found", "browser"),
            (&tar(b"storages"), "before 0.1.10", "torch.load"),
            (&tar(b"model.pth"), "a tar archive", "Unpack"),
        ];
        for (bytes, what, advice) in table {
            let error = of(bytes, bytes.len() as u64).unwrap_err();
            assert_eq!(error.code, Code::InvalidArtefact, "{what}");
            let text = error.to_string();
            assert!(text.contains(what) && text.contains(advice), "{what}: {text}");
        }
        let error = of(b"\x01\xfe\xff", 3).unwrap_err().to_string();
        assert!(error.contains("no kind of file that is known"), "{error}");
    }

    #[test]
    fn a_file_that_is_read_is_told_by_its_beginning() {
        assert_eq!(of(b"PK\x03\x04", 4).unwrap(), Kind::Zip);
        assert_eq!(of(b"\x80\x02\x8a\x0al\xfc", 6).unwrap(), Kind::Pickles);
        assert_eq!(of(b"\x02\0\0\0\0\0\0\0{}", 10).unwrap(), Kind::Safetensors);
        let cut = of(b"\xff\0\0\0\0\0\0\0{\"a\":", 13).unwrap_err().to_string();
        assert!(cut.contains("cut short: expected a header of 263 bytes at least, received 13 bytes"), "{cut}");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("received a folder"));
        if cfg!(unix) {
            assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("a device or a pipe"));
        }
        assert_eq!(read(&folder.path().join("none")).unwrap_err().code, Code::NotFound);
    }
}

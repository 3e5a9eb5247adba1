//! What a user's `--data` is, found out by looking at it.
//!
//! | looks like | kind | classes | own parts |
//! |---|---|---|---|
//! | the word `glyphs`, with options | `glyphs` | drawn characters | none |
//! | a folder with `*-images-idx3-ubyte(.gz)` | `idx` | digits `0`..`9` | train / t10k, classes shared |
//! | a folder with `train.bin`, `test.bin`, or `cifar-100-binary.tar.gz` | `cifar` | fine labels | train / test, classes shared |
//! | `images_background` / `images_evaluation`, folder or ZIP | `omniglot` | alphabet/character | background / evaluation |
//! | a ZIP file (by content) | `zip` | as a folder | as a folder |
//! | a tar file, gzip or not (by content) | `tar` | as a folder | as a folder |
//! | a folder that holds nothing but one such archive | that archive | | |
//! | a Parquet file (by content), or a folder that holds such and no image | `parquet` | its column `label` | its column `split`, or the file's name |
//! | a file of stored vectors: `.npy`, `.npz`, Arrow, `.safetensors`, Parquet without images, or any table where the options say so | `vectors` | its column `label`, else as a folder by its ids | as a folder by its ids |
//! | a text, CSV, TSV, JSON or JSON Lines file (by ending) | `manifest` | its column `class` | its column `part` |
//! | a path with `*`, `?`, `[` or `{` that is no file | `glob` | as a folder | as a folder |
//! | an image file (by ending) | `folder` | | |
//! | a folder | `folder` | path of the folder that holds the image | `train`, `val`, `test` on top |
//!
//! Archives are read in place: nothing is unpacked. [`layout`] turns paths into classes and parts, the same for all
//! four; [`published`] knows data sets that bring lists of their own.

pub mod annotation;
mod archive;
pub mod arrays;
mod cifar;
pub mod glob;
mod hash;
mod idx;
pub mod ignored;
pub mod layout;
pub mod listing;
pub mod manifest;
pub mod parquet;
pub mod published;
pub mod spelling;
pub mod tar;
pub mod walk;
pub mod zip;

use std::cell::RefCell;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use self::arrays::Arrays;
use self::cifar::CifarFiles;
use self::hash::hash_metadata;
use self::idx::IdxFiles;
use self::ignored::is_image_name;
use self::listing::Listing;
use self::parquet::ParquetImages;
use crate::data::glyphs::GlyphSpec;
use crate::data::plan::{DataKind, DataPlan};
use crate::data::stop::Stop;
use crate::error::{Code, Error, Result};
use crate::vectors::{self, VectorOptions, VectorTable, holds_only_vectors};

/// The kind of a file of vectors.
pub const VECTORS: &str = "vectors";

const OMNIGLOT: &str = "Omniglot";
const CIFAR: &str = "CIFAR-100";

/// A source after a first look: cheap to find, not yet listed or decoded.
pub struct Source {
    /// `"glyphs"`, `"folder"`, `"glob"`, `"manifest"`, `"zip"`, `"tar"`, `"parquet"`, `"omniglot"`, `"idx"`, `"cifar"` or
    /// `"vectors"`.
    pub kind: &'static str,
    /// The published data set, where that is known before a look inside.
    pub name: Option<&'static str>,
    /// What was recognised and why, a clause.
    pub reason: String,
    /// How to read it.
    pub reader: Reader,
}

/// How a source is read.
pub enum Reader {
    /// Draws every image.
    Glyphs(GlyphSpec),
    /// Copies images out of files that hold many.
    Arrays(ArrayFiles),
    /// Decodes image files.
    Files(Vec<Root>),
    /// Copies the numbers of vectors.
    Vectors(Box<VectorTable>),
}

/// Files that hold many images as plain bytes, found but not yet read.
pub enum ArrayFiles {
    /// MNIST's form.
    Idx(IdxFiles),
    /// CIFAR-100's form.
    Cifar(CifarFiles),
}

/// One place with image files.
pub enum Root {
    /// A folder, with its image files, or those that were named.
    Folder(Box<walk::Walk>),
    /// A ZIP archive.
    Zip(PathBuf),
    /// A tar archive.
    Tar(PathBuf),
    /// Parquet files.
    Parquet(Box<ParquetImages>),
}

impl Source {
    /// Looks at `plan.source` and `plan.more`.
    ///
    /// # Errors
    /// When a path does not exist, may not be read, or is nothing that is known; when stopped.
    pub fn detect(plan: &DataPlan, stop: Stop<'_>) -> Result<Source> {
        if let Some((_, source)) = LAST.take().filter(|(of, _)| plan.places().eq(of)) {
            return Ok(source);
        }
        if plan.source == "glyphs" || plan.source.starts_with("glyphs:") {
            return glyphs(plan);
        }
        let paths: Vec<PathBuf> = plan.places().map(PathBuf::from).collect();
        if let [path] = &paths[..] {
            let said = plan.kind == DataKind::Vectors || plan.vectors.is_some();
            return match is_vectors(path, said)? {
                true => vector_source(path, plan.vectors.as_ref()),
                false => detect_one(path, stop),
            };
        }
        let mut roots = Vec::new();
        let mut kinds = Vec::new();
        for path in &paths {
            let found = detect_one(path, stop)?;
            let Reader::Files(mut more) = found.reader else {
                return Err(Error::new(Code::InvalidOption, "only folders and archives of images can be put together")
                    .with_subject(path.display().to_string())
                    .with_advice("give a folder of IDX or CIFAR files, or a file of vectors, alone"));
            };
            roots.append(&mut more);
            kinds.push(found.kind);
        }
        let kind = if kinds.iter().all(|&kind| kind == kinds[0]) { kinds[0] } else { "folder" };
        let reason = format!("{} places of images put together ({})", paths.len(), kinds.join(", "));
        let name = (kind == "omniglot").then_some(OMNIGLOT);
        Ok(Source { kind, name, reason, reader: Reader::Files(roots) })
    }

    /// What defaults hang on.
    pub fn data_kind(&self) -> DataKind {
        match self.kind {
            "glyphs" => DataKind::Glyphs,
            "omniglot" => DataKind::Omniglot,
            "idx" => DataKind::Idx,
            "cifar" => DataKind::Cifar,
            VECTORS => DataKind::Vectors,
            _ => DataKind::Images,
        }
    }

    /// The numbers of a vector, where the source is of such.
    pub fn dimension(&self) -> Option<usize> {
        match &self.reader {
            Reader::Vectors(table) => Some(table.dimension),
            _ => None,
        }
    }

    /// Refuses vectors of other than `expected` numbers.
    ///
    /// # Errors
    /// `ERR_INVALID_DATA`.
    pub fn check_dimension(&self, expected: usize) -> Result<()> {
        let Some(found) = self.dimension().filter(|&found| found != expected) else { return Ok(()) };
        Err(Error::new(Code::InvalidData, "the vectors have another length")
            .with_subject("data")
            .with_values(format!("{expected} numbers"), found.to_string())
            .with_advice("give vectors of the same model"))
    }

    /// Keeps what was found for the next [`Source::detect`] of `plan` on this thread, once: a folder of many files is
    /// listed to resolve a plan, and not again to open it.
    pub fn pass_on(self, plan: &DataPlan) {
        LAST.set(Some((plan.places().map(str::to_string).collect(), self)));
    }

    /// A hash of what the images depend on without reading them: names, sizes and times of the files, or the options.
    ///
    /// On Unix the time of the last change of a file's status counts too, which no program can set back: an edit that
    /// keeps size and modification time is seen.
    ///
    /// # Errors
    /// When a file disappeared or may not be read.
    pub fn key(&self) -> Result<blake3::Hasher> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.kind.as_bytes());
        match &self.reader {
            Reader::Glyphs(spec) => {
                hasher.update(spec.to_string().as_bytes());
            }
            Reader::Vectors(table) => {
                hasher.update(table.hash.as_bytes()).update(format!("{:?}", table.labels).as_bytes());
            }
            Reader::Arrays(files) => files.paths().try_for_each(|path| hash_file(&mut hasher, path))?,
            Reader::Files(roots) => {
                for root in roots {
                    match root {
                        Root::Folder(walk) => walk.hash(&mut hasher),
                        Root::Zip(path) | Root::Tar(path) => hash_file(&mut hasher, path)?,
                        Root::Parquet(images) => images.paths().try_for_each(|path| hash_file(&mut hasher, path))?,
                    }
                }
            }
        }
        Ok(hasher)
    }

    /// A hash of the options, or of how large the files are.
    ///
    /// # Errors
    /// As of [`Source::key`].
    pub fn sizes(&self) -> Result<blake3::Hasher> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.kind.as_bytes());
        let mut add = |length: u64| {
            hasher.update(&length.to_le_bytes());
        };
        match &self.reader {
            Reader::Glyphs(spec) => {
                hasher.update(spec.to_string().as_bytes());
            }
            Reader::Vectors(table) => {
                hasher.update(table.hash.as_bytes());
            }
            Reader::Arrays(files) => files.paths().try_for_each(|path| size_of_file(path).map(&mut add))?,
            Reader::Files(roots) => {
                for root in roots {
                    match root {
                        Root::Folder(walk) => walk.files.iter().for_each(|(_, meta)| add(meta.len())),
                        Root::Zip(path) | Root::Tar(path) => add(size_of_file(path)?),
                        Root::Parquet(images) => {
                            images.paths().try_for_each(|path| size_of_file(path).map(&mut add))?;
                        }
                    }
                }
            }
        }
        Ok(hasher)
    }
}

thread_local! {
    /// See [`Source::pass_on`].
    static LAST: RefCell<Option<(Vec<String>, Source)>> = const { RefCell::new(None) };
}

impl ArrayFiles {
    /// All files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        match self {
            ArrayFiles::Idx(files) => files.paths(),
            ArrayFiles::Cifar(files) => files.paths(),
        }
        .into_iter()
    }

    /// Reads every part.
    ///
    /// # Errors
    /// When a file cannot be read, is cut off, or is not what its name says.
    pub fn read(&self) -> Result<Arrays> {
        match self {
            ArrayFiles::Idx(files) => files.read(),
            ArrayFiles::Cifar(files) => files.read(),
        }
    }
}

/// Whether the data at `path` are vectors. Tables of any content are such where the options say so.
fn is_vectors(path: &Path, said: bool) -> Result<bool> {
    if said || !path.is_file() {
        return Ok(said);
    }
    let is_parquet = matches!(sniff(path), Ok(Some(Archive::Parquet)));
    let is_tensors = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
    Ok(is_tensors
        || holds_only_vectors(path)
        || (is_parquet && !parquet::has_images(path)? && vectors::parquet_has_vectors(path)))
}

fn vector_source(path: &Path, options: Option<&VectorOptions>) -> Result<Source> {
    let table = vectors::read(path, &options.cloned().unwrap_or_default())?;
    let reason = format!("the file of vectors {}", path.file_name().unwrap_or_default().to_string_lossy());
    Ok(Source { kind: VECTORS, name: None, reason, reader: Reader::Vectors(Box::new(table)) })
}

fn glyphs(plan: &DataPlan) -> Result<Source> {
    if let Some(more) = plan.more.first() {
        return Err(Error::new(Code::InvalidOption, "glyphs are drawn and cannot be put together with files")
            .with_subject(more.clone())
            .with_advice("give one source"));
    }
    let spec = GlyphSpec::parse(&plan.source)?;
    let reason = format!("{} procedurally drawn characters by {} writers each", spec.classes, spec.writers);
    Ok(Source { kind: "glyphs", name: None, reason, reader: Reader::Glyphs(spec) })
}

fn detect_one(path: &Path, stop: Stop<'_>) -> Result<Source> {
    let meta = match fs::metadata(path) {
        Err(_) if glob::is_pattern(path) => return detect_pattern(path, stop),
        meta => meta.map_err(|e| unreadable_source(path, e))?,
    };
    if meta.is_dir() { detect_folder(path, stop) } else { detect_file(path, stop) }
}

fn detect_pattern(path: &Path, stop: Stop<'_>) -> Result<Source> {
    let walk = glob::walk(path, stop)?;
    if walk.files.is_empty() {
        return parquet_source(&walk.root, walk.parquet, stop);
    }
    let reason = format!("the image files that {} names", path.display());
    Ok(Source { kind: "glob", name: None, reason, reader: Reader::Files(vec![Root::Folder(Box::new(walk))]) })
}

fn unreadable_source(path: &Path, source: std::io::Error) -> Error {
    let missing = source.kind() == std::io::ErrorKind::NotFound;
    let error = Error::io("looking at the data", path, source);
    if missing {
        return error.with_advice(
            "give \"glyphs\", or the path of a folder, flat or with one subfolder of images for each class, of a ZIP or tar of one, \
             of a Parquet file, or of a manifest that names images",
        );
    }
    error
}

fn detect_folder(path: &Path, stop: Stop<'_>) -> Result<Source> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| Error::io("listing the data folder", path, e))? {
        names.push(entry.map_err(|e| Error::io("listing the data folder", path, e))?.file_name());
    }
    names.sort();
    if let Some(files) = IdxFiles::find(path, &names) {
        let reason = "a folder of IDX files (the format of MNIST and Fashion-MNIST)".into();
        return Ok(Source { kind: "idx", name: None, reason, reader: Reader::Arrays(ArrayFiles::Idx(files)) });
    }
    if let Some(files) = CifarFiles::find(path, &names) {
        let reason = "a folder of its binary files".into();
        return Ok(Source {
            kind: "cifar",
            name: Some(CIFAR),
            reason,
            reader: Reader::Arrays(ArrayFiles::Cifar(files)),
        });
    }
    let omniglot: Vec<PathBuf> = ["images_background.zip", "images_evaluation.zip"]
        .iter()
        .filter(|name| names.iter().any(|n| n == *name))
        .map(|name| path.join(name))
        .collect();
    if let [first, rest @ ..] = &omniglot[..] {
        let reason = match rest {
            [] => format!("{} alone, of its two archives", first.file_name().unwrap_or_default().to_string_lossy()),
            _ => "its two archives in a folder".into(),
        };
        let roots = omniglot.into_iter().map(Root::Zip).collect();
        return Ok(Source { kind: "omniglot", name: Some(OMNIGLOT), reason, reader: Reader::Files(roots) });
    }
    let walk = walk::Walk::new(path, stop)?;
    if walk.files.is_empty() && !walk.parquet.is_empty() {
        return parquet_source(path, walk.parquet, stop);
    }
    if walk.files.is_empty() {
        let told = |path: PathBuf| sniff(&path).ok().flatten().map(|archive| (path, archive));
        let archives: Vec<(PathBuf, Archive)> = names.iter().filter_map(|name| told(path.join(name))).collect();
        if let [(path, archive)] = &archives[..] {
            let mut source = archive_of(path, Some(*archive))?;
            source.reason = format!("{}, the only archive in the folder", source.reason);
            return Ok(source);
        }
        return Err(no_images(path, &walk.listing, archives.len()));
    }
    let omniglot = names.iter().any(|n| n == "images_background" || n == "images_evaluation")
        || path.file_name().is_some_and(|n| n == "images_background" || n == "images_evaluation");
    let (kind, name, what) = match omniglot {
        true => ("omniglot", Some(OMNIGLOT), "its folders"),
        false => ("folder", None, "a folder of image files"),
    };
    Ok(Source { kind, name, reason: what.into(), reader: Reader::Files(vec![Root::Folder(Box::new(walk))]) })
}

fn parquet_source(root: &Path, files: Vec<(PathBuf, String)>, stop: Stop<'_>) -> Result<Source> {
    let reason = match &files[..] {
        [(_, only)] => format!("the Parquet file {only}"),
        several => format!("{} Parquet files", several.len()),
    };
    let images = ParquetImages::list(root, files, stop)?;
    let reader = Reader::Files(vec![Root::Parquet(Box::new(images))]);
    Ok(Source { kind: "parquet", name: None, reason, reader })
}

fn no_images(path: &Path, listing: &Listing, archives: usize) -> Error {
    let subject = path.display().to_string();
    if let Some(first) = listing.broken.first() {
        return Error::new(
            Code::PermissionDenied,
            format!("no image can be read in this folder; {}: {}", first.path, first.reason),
        )
        .with_subject(subject)
        .with_advice("give this user the right to read it");
    }
    if archives > 1 {
        return Error::new(Code::InvalidData, format!("the folder holds {archives} archives and no images"))
            .with_subject(subject)
            .with_advice("give the path of the archive to use, or the paths of several");
    }
    Error::new(Code::InvalidData, "the folder holds no images")
        .with_subject(subject)
        .with_values(IMAGE_NAMES, listing.ignored.describe())
        .with_advice(advice_without_images(listing, "put the images of each class into a subfolder of their own"))
}

/// What an image's path looks like, for messages.
pub const IMAGE_NAMES: &str = "class/image.png, .jpg, .jpeg, .jfif, .webp, .bmp, .gif, .tiff or .ppm";

/// What to do about a source without images: what its left-out files call for, else `usual`.
pub fn advice_without_images(listing: &Listing, usual: &str) -> String {
    let told: Vec<&String> = listing.warnings.iter().collect();
    let left_out = listing.ignored.warnings();
    let others = told.into_iter().chain(&left_out).map(|text| &text[..]);
    std::iter::once(usual).chain(others).collect::<Vec<_>>().join("; ")
}

fn detect_file(path: &Path, stop: Stop<'_>) -> Result<Source> {
    if !path.is_file() {
        return Err(Error::new(Code::InvalidData, "the data can only be a folder or a file")
            .with_subject(path.display().to_string())
            .with_values(
                "a folder, a ZIP, a tar, a tar.gz, a Parquet file or a manifest",
                "a FIFO, a device or a socket",
            )
            .with_advice("write what it would give into a file, and give that"));
    }
    let archive = sniff(path).map_err(|e| Error::io("reading the data file", path, e))?;
    match (manifest::Form::of(path), archive) {
        (Some(form), None) => {
            let walk = manifest::open(path, form, stop)?;
            let reason = format!("the manifest {}", path.file_name().unwrap_or_default().to_string_lossy());
            let reader = Reader::Files(vec![Root::Folder(Box::new(walk))]);
            Ok(Source { kind: "manifest", name: None, reason, reader })
        }
        (_, None) if is_image_name(&path.to_string_lossy()) => {
            let walk = walk::Walk::of_file(path).map_err(|e| Error::io("looking at the data", path, e))?;
            let reader = Reader::Files(vec![Root::Folder(Box::new(walk))]);
            Ok(Source { kind: "folder", name: None, reason: "a single image file".into(), reader })
        }
        (_, Some(Archive::Parquet)) => {
            let inside = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            parquet_source(path, vec![(path.into(), inside)], stop)
        }
        (_, archive) => archive_of(path, archive),
    }
}

fn archive_of(path: &Path, archive: Option<Archive>) -> Result<Source> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (kind, reason, root) = match archive {
        Some(Archive::Zip) if name.starts_with("images_background") || name.starts_with("images_evaluation") => {
            ("omniglot", format!("{name} alone, of its two archives"), Root::Zip(path.into()))
        }
        Some(Archive::Tar) if name.starts_with("cifar-100-binary") => {
            let reader = Reader::Arrays(ArrayFiles::Cifar(CifarFiles::Tar(path.into())));
            return Ok(Source { kind: "cifar", name: Some(CIFAR), reason: format!("its archive {name}"), reader });
        }
        Some(Archive::Zip) => ("zip", format!("the ZIP archive {name}"), Root::Zip(path.into())),
        Some(Archive::Tar) => ("tar", format!("the tar archive {name}"), Root::Tar(path.into())),
        Some(Archive::Parquet) | None => {
            return Err(Error::new(Code::InvalidData, "the file is no archive that is known, and no manifest")
                .with_subject(path.display().to_string())
                .with_values(
                    "a folder, a ZIP, a tar, a tar.gz or a Parquet file (told by content, not by name), a manifest that ends in \
                     .txt, .csv, .tsv, .json or .jsonl, or an image",
                    "another kind of file",
                )
                .with_advice("give the folder that holds the images, or pack them as a ZIP"));
        }
    };
    let name = (kind == "omniglot").then_some(OMNIGLOT);
    Ok(Source { kind, name, reason, reader: Reader::Files(vec![root]) })
}

#[derive(Clone, Copy)]
enum Archive {
    Zip,
    Tar,
    Parquet,
}

/// Tells an archive by its first bytes. A gzip that holds no tar is found out when it is listed.
fn sniff(path: &Path) -> std::io::Result<Option<Archive>> {
    if !path.is_file() {
        return Ok(None); // Opening a FIFO would wait for its writer.
    }
    let mut head = Vec::new();
    fs::File::open(path)?.take(512).read_to_end(&mut head)?;
    let is_tar = head.get(257..262) == Some(b"ustar");
    let is_idx = path.file_name().is_some_and(|name| name.to_string_lossy().contains("-ubyte"));
    Ok(match &head[..] {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Archive::Zip),
        [0x1f, 0x8b, ..] if !is_idx => Some(Archive::Tar),
        _ if is_tar => Some(Archive::Tar),
        head if parquet::is_parquet(head) => Some(Archive::Parquet),
        _ => None,
    })
}

fn hash_file(hasher: &mut blake3::Hasher, path: &Path) -> Result<()> {
    hash_metadata(hasher, &path.display().to_string(), &metadata_of(path)?);
    Ok(())
}

fn size_of_file(path: &Path) -> Result<u64> {
    metadata_of(path).map(|meta| meta.len())
}

fn metadata_of(path: &Path) -> Result<fs::Metadata> {
    fs::metadata(path).map_err(|e| Error::io("looking at the data", path, e))
}

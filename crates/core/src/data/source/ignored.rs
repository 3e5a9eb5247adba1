//! Files that are left out, counted so that nobody has to wonder where they are.

use std::collections::BTreeMap;

use image::ImageFormat;

use crate::names::IMAGE_ENDINGS;

/// Endings of pictures that are not: of phones, of cameras, of drawing programs, of science.
const UNREAD: [&str; 39] = [
    "3fr", "ai", "arw", "avif", "cr2", "cr3", "dcm", "dds", "dng", "emf", "eps", "exr", "hdr", "heic", "heif", "hif",
    "ico", "j2k", "jp2", "jpf", "jpx", "jxl", "jxr", "nef", "nrw", "orf", "pcx", "pef", "psd", "qoi", "raf", "raw",
    "rw2", "srw", "svg", "svgz", "tga", "wmf", "xcf",
];

/// What operating systems, file managers and storage appliances put beside a user's files, in small letters. Names that
/// begin with a point belong to them too.
const SYSTEM: [&str; 16] = [
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "@tmp",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "ehthumbs.db",
    "icon\\x0d",
    "lost+found",
    "network trash folder",
    "system volume information",
    "thumbs.db",
];

/// Files without an image's name whose content is looked at, for each source.
const MAX_LOOKS: usize = 1000;

/// Endings that a message names.
const MAX_NAMED: usize = 6;

/// Bytes by which an image is told.
pub const HEAD_BYTES: usize = 32;

/// The ending of a path in small letters, empty where there is none.
fn ending(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_ascii_lowercase())
}

/// Whether a file's name ends like an image's and nothing around it is [hidden](is_hidden).
pub fn is_image_name(path: &str) -> bool {
    ends_like_image(path) && !is_hidden(path)
}

/// Whether a file's name ends like an image's.
pub fn ends_like_image(path: &str) -> bool {
    IMAGE_ENDINGS.contains(&&ending(path)[..])
}

/// Whether a path holds a hidden part, or one that a system put there.
pub fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| (part.starts_with('.') && part != ".") || SYSTEM.contains(&&part.to_lowercase()[..]))
}

/// Files that were left out.
#[derive(Clone, Debug, Default)]
pub struct Ignored {
    /// Number of files by ending.
    endings: BTreeMap<String, usize>,
    /// Number of files, among the first thousand, that are images by content; and the first of them.
    images: usize,
    first_image: Option<String>,
    looks: usize,
    /// Links inside archives that lead to no image there, and sparse files.
    links: usize,
}

impl Ignored {
    /// Counts the file at `path`; `head` gives its first bytes, where they can be had.
    pub fn file(&mut self, path: &str, head: impl FnOnce() -> Option<Vec<u8>>) {
        let ending = ending(path);
        if !UNREAD.contains(&&ending[..]) && self.looks < MAX_LOOKS {
            self.looks += 1;
            let format = head().and_then(|head| image::guess_format(&head).ok());
            if format.is_some_and(|format| format.reading_enabled() && format != ImageFormat::Pnm) {
                self.images += 1;
                self.first_image.get_or_insert_with(|| path.to_string());
            }
        }
        *self.endings.entry(ending).or_default() += 1;
    }

    /// Counts a link in an archive whose target is not in it, or a sparse file.
    pub fn link(&mut self) {
        self.links += 1;
    }

    /// Adds what another place left out.
    pub fn add(&mut self, other: &Ignored) {
        other.endings.iter().for_each(|(ending, count)| *self.endings.entry(ending.clone()).or_default() += count);
        self.images += other.images;
        self.links += other.links;
        self.first_image = self.first_image.take().or_else(|| other.first_image.clone());
    }

    /// The files and their endings, "4 files (3 .txt, 1 without ending)".
    pub fn describe(&self) -> String {
        let count: usize = self.endings.values().sum();
        match count {
            0 => "no other file".into(),
            1 => format!("1 file ({})", self.named(|_| true)),
            _ => format!("{count} files ({})", self.named(|_| true)),
        }
    }

    /// What a user should know of them, each a sentence without its end.
    pub fn warnings(&self) -> Vec<String> {
        let count = |unread: bool| -> usize {
            self.endings.iter().filter(|(ending, _)| is_unread(ending) == unread).map(|(_, n)| n).sum()
        };
        let mut warnings = Vec::new();
        let others = count(false);
        if others > 0 {
            let are = if others == 1 { "file is" } else { "files are" };
            let named = self.named(|ending| !is_unread(ending));
            warnings.push(format!("{others} {are} no image by name and left out: {named}"));
        }
        let unread = count(true);
        if unread > 0 {
            let are = if unread == 1 { "picture is" } else { "pictures are" };
            let named = self.named(is_unread);
            let what = "convert them to PNG, JPEG or WebP and they are used";
            warnings.push(format!("{unread} {are} in formats that are not read, and left out: {named}; {what}"));
        }
        if let Some(first) = &self.first_image {
            let (are, their) = if self.images == 1 { ("file has", "its name") } else { ("files have", "their names") };
            warnings.push(format!(
                "{} left-out {are} an image's content without an image's name (the first is {first}); add .jpg, .png, ... to {their}",
                self.images
            ));
        }
        if self.links > 0 {
            let are = if self.links == 1 { "is" } else { "are" };
            warnings.push(format!(
                "{} of the archive's links and sparse files {are} left out; pack the images themselves",
                self.links
            ));
        }
        warnings
    }

    /// The most frequent endings with their counts.
    fn named(&self, of: impl Fn(&str) -> bool) -> String {
        let mut all: Vec<(&str, usize)> =
            self.endings.iter().map(|(e, &n)| (&e[..], n)).filter(|(e, _)| of(e)).collect();
        all.sort_by_key(|&(ending, count)| (std::cmp::Reverse(count), ending));
        let one = |&(ending, count): &(&str, usize)| match ending {
            "" => format!("{count} without ending"),
            _ => format!("{count} .{}", ending.chars().take(12).collect::<String>()),
        };
        let rest: usize = all.iter().skip(MAX_NAMED).map(|(_, count)| count).sum();
        let mut texts: Vec<String> = all.iter().take(MAX_NAMED).map(one).collect();
        texts.extend((rest > 0).then(|| format!("{rest} of other endings")));
        texts.join(", ")
    }
}

fn is_unread(ending: &str) -> bool {
    UNREAD.contains(&ending)
}

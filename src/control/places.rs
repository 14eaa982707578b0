//! Where control sockets are made and looked for (contract §2, `[admin] socket`).

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const NAME: &str = "control.sock";
/// Where commands look when the environment names no runtime directory.
const RUNTIME_DIRECTORY: &str = "/run/sidegate";

/// Where this host's control sockets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Where a sidecar makes its own, before a number is added.
    create: PathBuf,
    configured: Option<PathBuf>,
    directories: Vec<PathBuf>,
}

/// The places that follow from the configuration and from `$RUNTIME_DIRECTORY`, in which systemd
/// separates several directories by colons; the first counts.
#[must_use]
pub fn places(
    configured: Option<&Path>,
    sqlite_file: Option<&Path>,
    config_file: &Path,
    runtime_directory: Option<&OsStr>,
) -> Places {
    let runtime = runtime_directory
        .and_then(|value| std::env::split_paths(value).next())
        .filter(|first| !first.as_os_str().is_empty());
    let beside_store = sqlite_file.map(directory_of);
    let beside_config = directory_of(config_file);
    let create = configured.map_or_else(
        || {
            runtime
                .as_ref()
                .or(beside_store.as_ref())
                .unwrap_or(&beside_config)
                .join(NAME)
        },
        Path::to_owned,
    );
    let looked = runtime.unwrap_or_else(|| PathBuf::from(RUNTIME_DIRECTORY));
    Places {
        create,
        configured: configured.map(Path::to_owned),
        directories: [Some(looked), beside_store, Some(beside_config)]
            .into_iter()
            .flatten()
            .collect(),
    }
}

impl Places {
    /// The names a sidecar may take, in order: `control.sock`, `control-2.sock` and so on.
    pub(super) fn names(&self) -> impl Iterator<Item = PathBuf> + '_ {
        (1..=64).map(|number| numbered(&self.create, number))
    }

    /// Every control socket there is, each once.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        let mut look = |directory: &Path, stem: &str, end: &str, whole: bool| {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(middle) = name
                    .to_str()
                    .and_then(|name| name.strip_prefix(stem)?.strip_suffix(end))
                else {
                    continue;
                };
                if whole && !is_number(middle) {
                    continue;
                }
                let Ok(about) = fs::metadata(entry.path()) else {
                    continue;
                };
                if about.file_type().is_socket() && seen.insert((about.dev(), about.ino())) {
                    found.push(entry.path());
                }
            }
        };
        for directory in &self.directories {
            look(directory, "control", ".sock", false);
        }
        if let Some(path) = &self.configured {
            let (stem, end) = stem_and_end(path);
            look(&directory_of(path), &stem, &end, true);
        }
        found.sort();
        found
    }
}

/// Nothing, or a hyphen and digits.
fn is_number(middle: &str) -> bool {
    middle.is_empty()
        || middle
            .strip_prefix('-')
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

pub(super) fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn stem_and_end(path: &Path) -> (String, String) {
    let text = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let end = text(path.extension()).map_or_else(String::new, |end| format!(".{end}"));
    (text(path.file_stem()).unwrap_or_default(), end)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let (stem, end) = stem_and_end(path);
    path.with_file_name(format!("{stem}-{number}{end}"))
}

//! House rules that no lint knows: imports run one way, files stay readable, every room has a door
//! that says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by rank; a file may import lower ranks and its own room.
const RANKS: [(&str, u8); 17] = [
    ("base", 0),
    ("observe", 0),
    ("refusal", 0),
    ("tokens", 1),
    ("clients", 1),
    ("limits", 1),
    ("store", 2),
    ("server", 2),
    ("control", 2),
    ("gate", 3),
    ("echo", 4),
    ("upstream", 4),
    ("endpoints", 4),
    ("config", 5),
    ("front", 6),
    ("app", 7),
    ("cli", 8),
];

/// Within the lowest rank these stand below the others, in this order.
const LOWEST: [&str; 2] = ["base", "refusal"];

const MAX_LINES: usize = 600;

fn rank(room: &str) -> Option<u8> {
    RANKS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, rank)| *rank)
}

fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 50, "the sources are there");
    found
}

fn below_src(path: &Path) -> &Path {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    path.strip_prefix(&src).unwrap()
}

/// The room a file belongs to: its first folder, or its own name at the top.
fn room(path: &Path) -> Option<String> {
    let first = below_src(path).components().next()?;
    let first = Path::new(first.as_os_str()).file_stem()?;
    Some(first.to_str()?.to_owned())
}

/// Rooms named after `crate::` in a file's code, comments left out: `crate::room`, `crate::{a, b::c}`.
fn imports(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for after in code.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        };
        let Some(group) = after.strip_prefix('{') else {
            found.push(word(after));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.push(word(&group[start..at]));
                    start = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn the_reader_of_imports_sees_what_it_must() {
    let text = "use crate::gate::{self, Head};\nuse crate::{server, store::Stores, a::{b, c}};\n// crate::cli\nfn f() { crate::app::start() }";
    assert_eq!(imports(text), ["gate", "server", "store", "a", "app"]);
}

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for path in sources() {
        let room = room(&path).unwrap();
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let own = rank(&room).unwrap_or_else(|| panic!("src/{room} has no rank"));
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            let Some(theirs) = rank(&import) else {
                continue;
            };
            let depth = |room: &str| {
                LOWEST
                    .iter()
                    .position(|low| *low == room)
                    .unwrap_or(LOWEST.len())
            };
            let fine =
                import == room || theirs < own || (theirs == own && depth(&import) < depth(&room));
            if !fine {
                wrong.push(format!("{} imports {import}", below_src(&path).display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_stay_readable() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{}", path.display());
    }
}

#[test]
fn every_room_has_a_rank_and_a_door() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(rank(&name).is_some(), "src/{name} has no rank");
            assert!(path.join("mod.rs").exists(), "src/{name} has no mod.rs");
        }
    }
}

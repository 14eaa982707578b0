//! Readings of paths, and what is no path at all.

use super::*;

fn readings(path: &str) -> Vec<String> {
    let mut seen = Vec::new();
    every_reading(path, inspect(path).unwrap(), |reading, folded| {
        if !folded {
            seen.push(String::from_utf8_lossy(reading).into_owned());
        }
        true
    })
    .unwrap();
    seen
}

#[test]
fn a_plain_path_has_one_reading_and_costs_nothing() {
    for path in [
        "/",
        "/a",
        "/a/b.c/d~e",
        "/a..b/c",
        "/a/b:c@d=e,f&g$h!i*j'k(l)",
    ] {
        assert!(inspect(path).unwrap().is_plain(), "{path}");
        assert!(readings(path).is_empty());
    }
}

#[test]
fn what_readers_downstream_make_of_a_path_is_among_its_readings() {
    for (path, reading) in [
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E/b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/..", "/"),
        ("/a//b", "/a/b"),
        ("/a%2fb", "/a/b"),
        ("/a%5cb", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/a;x=1/b", "/a/b"),
        ("/a;x=1/b", "/a"),
        ("/a/..;/b", "/b"),
        ("/a/..%3bx/b", "/b"),
        ("/a/%252e%252e/b", "/b"),
        ("/a/%25252e%25252e/b", "/b"),
        ("/a%00/b", "/a"),
        ("/a/%c0%ae%c0%ae/b", "/b"),
        ("/a%c0%afb", "/a/b"),
        ("/a%e0%80%afb", "/a/b"),
        ("/a%f0%80%80%afb", "/a/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/x/..//../b", "/b"),
    ] {
        let all = readings(path);
        assert!(
            all.iter().any(|one| one == reading),
            "{path} as {reading}: {all:?}"
        );
    }
}

#[test]
fn letter_case_is_another_reading() {
    let mut folded = Vec::new();
    let path = "/Admin/%E2%84%AAey";
    every_reading(path, inspect(path).unwrap(), |reading, lower| {
        if lower {
            folded.push(String::from_utf8_lossy(reading).into_owned());
        }
        true
    })
    .unwrap();
    assert!(folded.contains(&"/admin/key".to_owned()), "{folded:?}");
}

#[test]
fn a_reading_that_disagrees_is_refused() {
    let path = "/public/%2e%2e/secret";
    let outcome = every_reading(path, inspect(path).unwrap(), |reading, _| {
        reading.starts_with(b"/public")
    });
    assert_eq!(outcome.unwrap_err().word().as_str(), "invalid_path");
}

#[test]
fn a_path_with_endless_readings_is_refused() {
    let path = format!("/{}", "a;%25/..".repeat(200));
    let mut asked = 0;
    let outcome = every_reading(&path, inspect(&path).unwrap(), |_, _| {
        asked += 1;
        true
    });
    assert!(outcome.is_err() || asked <= 2 * MAX_READINGS);
}

#[test]
fn broken_escapes_controls_and_high_bytes_are_no_path() {
    for path in [
        "", "a", "*", "/%", "/%2", "/%zz", "/a%2", "/\u{7f}", "/é", "/a b", "/a\tb", "/a\nb",
    ] {
        assert_eq!(
            inspect(path).unwrap_err().word().as_str(),
            "invalid_path",
            "{path:?}"
        );
    }
}

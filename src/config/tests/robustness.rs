//! Nothing that is read can end the process.

use std::path::Path;

use proptest::prelude::*;

use super::super::{Config, load};
use super::env;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

fn survives(text: &str, pairs: &[(&str, &str)]) {
    match Config::from_text(text, Path::new("/nowhere"), env(pairs)) {
        Ok(_) => {}
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            assert!(mistakes.to_string().lines().count() == mistakes.len() + 1);
            serde_json::to_string(&mistakes).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,200}") {
        survives(&text, &[]);
    }

    #[test]
    fn no_mutation_of_the_example_makes_the_reader_panic(
        at in 0..EXAMPLE.len(),
        gone in 0_usize..40,
        new in r#"[\[\]{}"'=#.,\\\na-z0-9 -]{0,8}"#,
    ) {
        let start = (0..=at).rev().find(|i| EXAMPLE.is_char_boundary(*i)).unwrap();
        let end = (at + gone).min(EXAMPLE.len());
        let end = (end..=EXAMPLE.len()).find(|i| EXAMPLE.is_char_boundary(*i)).unwrap();
        survives(&format!("{}{new}{}", &EXAMPLE[..start], &EXAMPLE[end..]), &[]);
    }

    #[test]
    fn no_variable_makes_the_reader_panic(
        name in "(server|routes|clients|rate_limits|upstreams|0|1|listen|url|path|secret|_|__|é|[a-z0-9]{1,3}){1,5}",
        table in "(SERVER|ROUTES|CLIENTS|UPSTREAMS|RATE_LIMITS|X)(__[A-Z0-9_]{1,6}){0,3}",
        text in r#"[\[\]{}"'=,a-z0-9 :/]{0,20}"#,
    ) {
        survives(EXAMPLE, &[(&format!("SIDEGATE__{name}"), &text), (&format!("sidegate__{table}"), &text)]);
    }

    #[test]
    fn no_bytes_in_the_file_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, bytes).unwrap();
        let _ = load(&file, []);
    }
}

#[test]
fn deep_nesting_is_a_mistake_and_no_overflow() {
    for text in [
        "a = ".to_owned() + &"[".repeat(50_000),
        "a = ".to_owned() + &"{a=".repeat(50_000),
    ] {
        survives(&text, &[]);
        survives("", &[("SIDEGATE__SERVER__LISTEN", &text[4..])]);
    }
    survives(&("a.".repeat(50_000) + "a = 1"), &[]);
    let name = format!("SIDEGATE__{}", vec!["A"; 20_000].join("__"));
    survives("", &[(&name, "1")]);
}

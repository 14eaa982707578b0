//! What is found, judged and cut.

use proptest::prelude::*;

use super::*;

fn cut(query: &str) -> String {
    without_ours(query, false).unwrap_or_else(|| "(nothing)".to_owned())
}

#[test]
fn ours_go_with_one_separator_each_and_every_other_byte_stays() {
    for (query, rest) in [
        ("sudo=uid:1", "(nothing)"),
        ("sudo", "(nothing)"),
        ("sudo=uid:1&", "(nothing)"),
        ("&sudo=uid:1", "(nothing)"),
        ("sudo=1&tenantId=7&access_token=x", "(nothing)"),
        ("a=1&sudo=uid:1", "a=1"),
        ("sudo=uid:1&a=1", "a=1"),
        ("a=1&sudo=uid:1&b=2", "a=1&b=2"),
        ("a=1&&sudo=uid:1&&b=2", "a=1&&&b=2"),
        ("b=2&SUDO=x&a=1&s%75do=y&b=3", "b=2&a=1&b=3"),
        (
            "a=%zz&b=%&sudo=x&c=%2F%2f+\u{E9}",
            "a=%zz&b=%&c=%2F%2f+\u{E9}",
        ),
        ("=x&sudo=1&==", "=x&=="),
        ("a=sudo=uid:1", "a=sudo=uid:1"),
        ("r=%26sudo%3D1", "r=%26sudo%3D1"),
        ("a=1&sudo==&b", "a=1&b"),
    ] {
        assert_eq!(cut(query), rest, "{query}");
    }
}

#[test]
fn the_token_stays_where_credentials_are_forwarded() {
    let kept = without_ours("a=1&access_token=t&sudo=x", true);
    assert_eq!(kept.as_deref(), Some("a=1&access_token=t"));
}

#[test]
fn one_of_ours_twice_has_no_value() {
    for query in [
        "sudo=a&sudo=a",
        "sudo=a&SUDO=b",
        "sudo&s%75do=b",
        "sudo=a&x&sudo",
    ] {
        let params = read(Some(query));
        assert!(params.value(Param::Sudo).is_err(), "{query}");
        assert!(params.refuse_everywhere().is_ok(), "{query}");
    }
}

#[test]
fn values_are_form_decoded_once() {
    for (query, value) in [
        ("sudo=uid:7", "uid:7"),
        ("sudo=uid%3A7", "uid:7"),
        ("sudo=uid:a+b", "uid:a b"),
        ("sudo=uid:%2B86", "uid:+86"),
        ("sudo=uid:%252B", "uid:%2B"),
        ("sudo=uid:%E6%9D%8E", "uid:\u{674E}"),
        ("sudo=uid:\u{674E}", "uid:\u{674E}"),
        ("sudo=uid:100%", "uid:100%"),
        ("sudo=a=b", "a=b"),
        ("sudo=a;b", "a;b"),
        ("sudo=", ""),
        ("sudo", ""),
    ] {
        let found = read(Some(query)).value(Param::Sudo).unwrap();
        assert_eq!(found.as_deref(), Some(value), "{query}");
    }
    assert_eq!(read(Some("a=1")).value(Param::Sudo).unwrap(), None);
    assert_eq!(read(None).value(Param::Sudo).unwrap(), None);
}

#[test]
fn values_that_could_be_read_in_two_ways_are_refused() {
    for value in [
        "+7",
        "7+",
        "%207",
        "7%20",
        "7%09",
        "%0A7",
        "7%00",
        "a%0D%0Ab",
        "%7F",
        "a%C2%85b",
        "%C2%A07",
        "7%E3%80%80",
        "%FF",
        "%C0%80",
        "%E6%9D",
        "%ED%A0%80",
    ] {
        let query = format!("tenantId={value}");
        let refused = read(Some(&query)).value(Param::TenantId).unwrap_err();
        assert_eq!(refused.word().as_str(), "invalid_request", "{value}");
    }
}

#[test]
fn hidden_and_misspelled_parameters_are_refused_everywhere() {
    for query in [
        "a=1;sudo=uid:1",
        "a;sudo=uid:1",
        ";sudo=uid:1",
        "sudo;=uid:1",
        "sudo;x=uid:1",
        "sudo=uid:1;sudo=uid:2",
        "sudo=uid:1;tenantId=7",
        "a=1;b=2;access.token=x",
        "a=x;%73udo=1",
        "a=1&amp;sudo=uid:1",
        "a=1;sudo",
        "b&access.token=x",
        "sudo[]=uid:1",
        "tenantId+=7",
        "tenantId%20=7&tenantId=7",
        "?sudo=uid:1",
    ] {
        assert!(read(Some(query)).refuse_everywhere().is_err(), "{query}");
    }
    for query in [
        "a=1;b=2",
        "a=sudo",
        "a=sudo;b",
        "q=a;b;c&sudo=uid:1",
        "sudo=uid:1;x=2",
        "redirect=%2Fx%3Fa%3D1%26sudo%3Duid:1",
        "q=%zz&r=%&s=\u{674E}",
        "",
        "&&",
    ] {
        assert!(read(Some(query)).refuse_everywhere().is_ok(), "{query}");
    }
}

#[test]
fn raw_control_characters_are_refused_and_raw_utf_8_is_not() {
    for query in [
        "a=\u{1}", "a=\t", "a=b c", "a=\u{7F}", "a=\u{85}", "a=1\r\n",
    ] {
        assert!(read(Some(query)).refuse_everywhere().is_err(), "{query:?}");
    }
    assert!(read(Some("a=\u{E9}\u{674E}")).refuse_everywhere().is_ok());
}

/// What readers downstream find: each gives the names it sees.
mod readers {
    fn percent(bytes: &str, plus: bool) -> Vec<u8> {
        let text = if plus {
            bytes.replace('+', " ")
        } else {
            bytes.to_owned()
        };
        percent_encoding::percent_decode_str(&text).collect()
    }

    fn name(pair: &str) -> &str {
        pair.split('=').next().unwrap()
    }

    /// `parse_str`: leading spaces go, NUL ends, the first part before a closed bracket is the name,
    /// `.`, space and an open bracket become `_`.
    pub(super) fn php(query: &str) -> Vec<String> {
        let mangle = |pair: &str| {
            let decoded = percent(name(pair), true);
            let start = decoded
                .iter()
                .position(|b| *b != b' ')
                .unwrap_or(decoded.len());
            let text: Vec<u8> = decoded[start..]
                .iter()
                .copied()
                .take_while(|b| *b != 0)
                .collect();
            let open = text.iter().position(|b| *b == b'[');
            let base = match open {
                Some(at) if at > 0 && text[at..].contains(&b']') => &text[..at],
                _ => &text[..],
            };
            let mut seen_open = false;
            let mangled = base.iter().map(|b| match b {
                b'.' | b' ' if !seen_open => b'_',
                b'[' if !seen_open => {
                    seen_open = true;
                    b'_'
                }
                b => *b,
            });
            String::from_utf8_lossy(&mangled.collect::<Vec<_>>()).into_owned()
        };
        query.split('&').map(mangle).collect()
    }

    /// Servlet containers and Go: exact names; here without regard to case, to be strict.
    pub(super) fn servlet(query: &str) -> Vec<String> {
        let read = |pair: &str| String::from_utf8_lossy(&percent(name(pair), true)).into_owned();
        query.split('&').map(read).collect()
    }

    /// Old Python, Perl, Rack 1: `;` separates as well.
    pub(super) fn semicolons(query: &str) -> Vec<String> {
        let read = |pair: &str| String::from_utf8_lossy(&percent(name(pair), true)).into_owned();
        query.split(['&', ';']).map(read).collect()
    }

    /// ASP.NET: `%uXXXX`, white space at the ends, Unicode letter case.
    pub(super) fn asp_net(query: &str) -> Vec<String> {
        let read = |pair: &str| {
            let name = name(pair).replace("%u00", "%").replace("%U00", "%");
            let decoded = percent(&name, true);
            let text = String::from_utf8_lossy(&decoded).into_owned();
            text.trim().to_uppercase().to_lowercase()
        };
        query.split('&').map(read).collect()
    }

    /// Whoever decodes what was decoded.
    pub(super) fn twice(query: &str) -> Vec<String> {
        let read = |pair: &str| {
            let once = String::from_utf8_lossy(&percent(name(pair), true)).into_owned();
            String::from_utf8_lossy(&percent(&once, false)).into_owned()
        };
        query.split('&').map(read).collect()
    }
}

fn is_ours(name: &str) -> bool {
    Param::ALL
        .iter()
        .any(|param| param.as_str().eq_ignore_ascii_case(name))
}

/// Queries made of what goes wrong.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "access_token", "access.token", "access token", "access", "token", "sudo", "SUDO", "su",
            "do", "tenantId", "tenantcode", "tenant", "Id", "code",
        ]).prop_map(str::to_owned),
        4 => prop::sample::select(vec![
            "&", "&&", "=", ";", "%26", "%3B", "%3D", "%25", "+", "%20", "%00", "%09", "%0A", "[", "]",
            "[]", "[x]", "%5B", "%5D", ".", "%2E", "_", "%5F", "%73", "%53", "%75", "%64", "%6F",
            "%2573", "%u0073", "%C5%BF", "\u{17F}", "\u{212A}", "%E2%84%AA", "%", "%z", "?", "!", ",",
            "%FF", "%C2%A0", "%C1%B3", "amp;",
        ]).prop_map(str::to_owned),
        2 => "[a-z0-9=&]{0,3}",
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat().replace(' ', "+"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_reader_finds_one_of_ours_in_what_goes_on(query in nasty()) {
        if read(Some(&query)).refuse_everywhere().is_ok() {
            let rest = without_ours(&query, false).unwrap_or_default();
            for (reader, read) in [
                ("php", readers::php as fn(&str) -> Vec<String>),
                ("servlet", readers::servlet),
                ("semicolons", readers::semicolons),
                ("asp.net", readers::asp_net),
                ("twice", readers::twice),
            ] {
                let ours: Vec<_> = read(&rest).into_iter().filter(|name| is_ours(name)).collect();
                prop_assert!(ours.is_empty(), "{reader} finds {ours:?} in {rest:?} of {query:?}");
            }
        }
    }

    #[test]
    fn bytes_that_are_not_ours_survive_in_order(
        pairs in prop::collection::vec((any::<bool>(), "[a-r0-9%+=./\\[\\]\u{E9}\u{674E}-]{0,12}"), 1..10)
    ) {
        let ours = "sudo=uid:1";
        let query: Vec<&str> = pairs.iter().map(|(own, text)| if *own { ours } else { text }).collect();
        let others: Vec<&str> = pairs.iter().filter(|(own, _)| !own).map(|(_, text)| text.as_str()).collect();
        let kept = without_ours(&query.join("&"), false).unwrap_or_default();
        prop_assert_eq!(kept, others.join("&"));
    }

    #[test]
    fn cutting_twice_is_cutting_once(query in nasty()) {
        let once = without_ours(&query, false).unwrap_or_default();
        let twice = without_ours(&once, false).unwrap_or_default();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn reading_never_panics(query in "\\PC{0,60}") {
        let params = read(Some(&query));
        for param in Param::ALL {
            let _ = params.value(param);
        }
    }
}

//! Which names are ours, and which some reader takes for ours.

use super::*;

#[test]
fn a_name_is_ours_in_any_letter_case_and_percent_encoding() {
    for (raw, expected) in [
        ("access_token", Some(Param::AccessToken)),
        ("ACCESS_TOKEN", Some(Param::AccessToken)),
        ("access%5Ftoken", Some(Param::AccessToken)),
        ("%61%63cess_token", Some(Param::AccessToken)),
        ("sudo", Some(Param::Sudo)),
        ("sUdO", Some(Param::Sudo)),
        ("s%75do", Some(Param::Sudo)),
        ("tenantid", Some(Param::TenantId)),
        ("tenant%49d", Some(Param::TenantId)),
        ("TenantCode", Some(Param::TenantCode)),
        ("sudo%", None),
        ("%2573udo", None),
        ("token", None),
        ("", None),
    ] {
        assert_eq!(Param::plain(raw), expected, "{raw}");
    }
}

#[test]
fn names_that_some_reader_takes_for_ours_are_known() {
    for raw in [
        // PHP: leading spaces, `.`, space and an unclosed bracket, members, what follows NUL
        "access.token",
        "access+token",
        "access%20token",
        "access%2Etoken",
        "access[token",
        "access%5Btoken",
        "ACCESS.Token",
        "+sudo",
        "%20%20sudo",
        "sudo[]",
        "sudo[x]",
        "sudo%5B%5D",
        "sudo[x][y]",
        "sudo[",
        "access.token[]",
        "access_token[0]",
        "sudo%00",
        "sudo%00x",
        "sudo%00%5B",
        "access[token%00]",
        // ASP.NET: white space at the ends, %uXXXX, letters that compare alike, full width
        "tenantId+",
        "tenantId%20",
        "tenantId%09",
        "%0Asudo",
        "tenantId%C2%A0",
        "tenantId%E3%80%80",
        "%u0073udo",
        "s%U0075do",
        "%u0053UDO",
        "%C5%BFudo",
        "\u{17F}udo",
        "access_to\u{212A}en",
        "access_to%E2%84%AAen",
        "tenant\u{131}d",
        "tenant\u{130}d",
        "\u{FF53}\u{FF55}\u{FF44}\u{FF4F}",
        // decoded twice, overlong, with bytes that lenient decoders drop
        "%2573udo",
        "%252573udo",
        "sudo%255B%255D",
        "%C1%B3udo",
        "sudo%FF",
        "su%FFdo",
        "sudo%E2%80%8B",
        "%EF%BB%BFsudo",
        // data binders and query libraries
        "!sudo",
        "[sudo]",
        "[[sudo]x",
        "sudo]x",
        "]sudo",
        "su%do",
        "sudo%",
        "%sudo",
        "?sudo",
        "sudo,",
        "sudo%3Duid:1",
    ] {
        assert!(some_reader_takes_it_for_ours(raw), "{raw}");
        assert_eq!(Param::plain(raw), None, "{raw}");
    }
}

#[test]
fn names_of_others_are_left_alone() {
    for raw in [
        "a",
        "token",
        "accessToken",
        "access-token",
        "access__token",
        "access[token]",
        "x_access_token",
        "access_token2",
        "sudoku",
        "pseudo",
        "sudo_user",
        "sudo-",
        "a[sudo]",
        "filter.sudo",
        "tenant",
        "tenant_id",
        "tenant.id",
        "tenant-id",
        "tenants[]",
        "tenantIds",
        "%zz",
        "%",
        "%u00",
        "",
        "\u{540D}\u{5B57}",
    ] {
        assert!(!some_reader_takes_it_for_ours(raw), "{raw}");
    }
}

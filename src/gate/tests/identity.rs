//! The class of names that only Sidegate may set, and the values it sets.

use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::*;

fn usual() -> IdentityHeaders {
    IdentityHeaders::new(&IdentitySettings::default())
}

fn renamed() -> IdentityHeaders {
    IdentityHeaders::new(&IdentitySettings {
        prefix: "X-Who-".to_owned(),
        renamed: vec![
            (IdentityKey::UserLogin, "X-WEBAUTH-USER".to_owned()),
            (IdentityKey::UserEmail, "Remote.Email".to_owned()),
        ],
    })
}

fn ours(names: &IdentityHeaders, name: &str) -> bool {
    names.is_ours(&HeaderName::from_bytes(name.as_bytes()).unwrap())
}

#[test]
fn a_name_is_ours_in_every_spelling_that_some_backend_folds_together() {
    for name in [
        "X-Auth-Client-Id",
        "x-auth-user-id",
        "X_AUTH_USER_ID",
        "X-Auth_User-Id",
        "x.auth.user.id",
        "X~Auth!User|Id",
        "X-Auth-",
        "X-Auth-Anything-New",
        "x-auth-client-cert-subject",
    ] {
        assert!(ours(&usual(), name), "{name}");
        assert!(ours(&renamed(), name), "{name}: default names stay ours");
    }
    for name in [
        "X-Auth",
        "X-Authority",
        "XAuth-User",
        "Authorization",
        "X-Who-User-Id",
        "X--Auth-User",
    ] {
        assert!(!ours(&usual(), name), "{name}");
    }
}

#[test]
fn configured_names_are_ours_as_well() {
    for name in [
        "X-WEBAUTH-USER",
        "x_webauth_user",
        "X.WebAuth.User",
        "Remote-Email",
        "remote_email",
        "X_Who_User_Id",
        "X-Who-",
    ] {
        assert!(ours(&renamed(), name), "{name}");
    }
    for name in ["X-WEBAUTH-USERS", "X-WEBAUTH", "Remote-User"] {
        assert!(!ours(&renamed(), name), "{name}");
    }
}

#[test]
fn members_have_the_names_of_the_contract_unless_renamed() {
    for (key, _, behind) in IdentityKey::ALL {
        let expected = format!("x-auth-{}", behind.to_lowercase());
        assert_eq!(usual().name(key).as_str(), expected);
        assert_eq!(default_name(key).as_str(), expected);
    }
    assert_eq!(renamed().name(IdentityKey::UserLogin), "x-webauth-user");
    assert_eq!(renamed().name(IdentityKey::UserId), "x-who-user-id");
}

#[test]
fn names_that_cannot_stand_in_a_header_become_their_default_and_an_empty_prefix_drops_nothing_else()
{
    let names = IdentityHeaders::new(&IdentitySettings {
        prefix: String::new(),
        renamed: vec![(IdentityKey::UserId, "no name".to_owned())],
    });
    assert_eq!(names.name(IdentityKey::UserId), "x-auth-user-id");
    assert!(ours(&names, "Client_Id") && ours(&names, "X-Auth-Foo") && !ours(&names, "Accept"));
}

#[test]
fn an_identity_is_not_written_into_a_header_with_a_meaning_of_its_own() {
    for name in [
        "Host",
        "content-length",
        "Transfer_Encoding",
        "Connection",
        "TE",
        "Authorization",
        "X-Forwarded-User",
        "X_Real_IP",
        "X-Request-Id",
        "no name",
        "",
        "\u{E9}",
    ] {
        assert!(check_name(name).is_err(), "{name}");
        let names = IdentityHeaders::new(&IdentitySettings {
            renamed: vec![(IdentityKey::UserId, name.to_owned())],
            ..IdentitySettings::default()
        });
        assert_eq!(names.name(IdentityKey::UserId), "x-auth-user-id");
    }
    assert_eq!(check_name("X-WEBAUTH-USER").unwrap(), "x-webauth-user");
    assert!(check_name("Remote-User").is_ok());
}

#[test]
fn values_are_visible_and_say_what_they_encode() {
    for (text, value) in [
        ("7", "7"),
        ("a@b.c", "a@b.c"),
        ("a b", "a%20b"),
        ("100%", "100%25"),
        ("%41", "%2541"),
        ("\u{674E}", "%E6%9D%8E"),
        ("!~\"\\,;=", "!~\"\\,;="),
    ] {
        assert_eq!(header_value(text, VALUES).unwrap(), value);
    }
}

proptest! {
    #[test]
    fn a_value_is_always_safe_and_always_decodable(text in "\\PC{0,40}|.{0,20}") {
        let value = header_value(&text, VALUES).unwrap();
        let written = value.to_str().unwrap();
        prop_assert!(written.bytes().all(|b| b.is_ascii_graphic()));
        prop_assert_eq!(percent_decode_str(written).decode_utf8().unwrap(), text);
    }

    #[test]
    fn any_separator_and_letter_case_folds_into_the_class(
        separators in prop::collection::vec("[-_.~!#$%&'*+^`|]", 3), upper in any::<u32>()
    ) {
        let mut name = String::new();
        for (i, (word, separator)) in ["x", "auth", "user", "id"].iter().zip(separators.iter().chain([&String::new()])).enumerate() {
            let word = if upper >> i & 1 == 1 { word.to_uppercase() } else { (*word).to_owned() };
            name.push_str(&word);
            name.push_str(separator);
        }
        prop_assert!(ours(&usual(), &name), "{}", name);
    }
}

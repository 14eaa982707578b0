//! Whom a request acts as.

use super::*;
use crate::clients::SudoGrant;
use crate::clients::tests_support::file_client;
use crate::gate::query;

fn word<T>(result: Result<T, Refusal>) -> &'static str {
    result.map_or_else(|refusal| refusal.word().as_str(), |_| "passes")
}

fn sudo(query: &str) -> Sudo<'_> {
    read(&query::read(Some(query))).unwrap().unwrap()
}

#[test]
fn each_kind_becomes_its_own_header() {
    for (query, value, header) in [
        ("sudo=uid:7", "7", IdentityKey::UserId),
        ("sudo=loginName:li", "li", IdentityKey::UserLogin),
        ("sudo=username:li", "li", IdentityKey::UserLogin),
        ("sudo=email:a%40b.c", "a@b.c", IdentityKey::UserEmail),
        ("sudo=mobile:%2B86138", "+86138", IdentityKey::UserMobile),
        ("sudo=uid:a:b:c", "a:b:c", IdentityKey::UserId),
        ("sudo=uid:a+b", "a b", IdentityKey::UserId),
    ] {
        let sudo = sudo(query);
        assert_eq!((sudo.value(), sudo.header()), (value, header), "{query}");
        assert_eq!(sudo.is_deprecated(), query.contains("username"), "{query}");
    }
}

#[test]
fn what_is_no_sudo_is_refused() {
    for (query, expected) in [
        ("sudo=", "invalid_sudo"),
        ("sudo", "invalid_sudo"),
        ("sudo=7", "invalid_sudo"),
        ("sudo=uid", "invalid_sudo"),
        ("sudo=uid:", "invalid_sudo"),
        ("sudo=:7", "invalid_sudo"),
        ("sudo=UID:7", "invalid_sudo"),
        ("sudo=loginname:li", "invalid_sudo"),
        ("sudo=Email:a@b", "invalid_sudo"),
        ("sudo=name:li", "invalid_sudo"),
        ("sudo=uid%20:7", "invalid_sudo"),
        ("sudo=mobile:+86138", "invalid_request"),
        ("sudo=uid:%2086", "invalid_request"),
        ("sudo=+uid:7", "invalid_request"),
        ("sudo=uid:7+", "invalid_request"),
        ("sudo=uid:7%00", "invalid_request"),
        ("sudo=uid:%FF", "invalid_request"),
        ("sudo=uid:1&sudo=uid:1", "invalid_request"),
    ] {
        assert_eq!(word(read(&query::read(Some(query)))), expected, "{query}");
    }
}

#[test]
fn acting_as_somebody_needs_the_scope_in_either_spelling_and_a_pattern() {
    let mut client = file_client("demo", "s", "sudo read");
    client.sudo = SudoGrant::parse(["uid:7*", "email:*@example.com", "loginName:li"]).unwrap();
    for (query, scopes, expected) in [
        ("sudo=uid:70", "sudo", "passes"),
        ("sudo=uid:70", "read sodu", "passes"),
        ("sudo=uid:70", "read", "insufficient_scope"),
        ("sudo=uid:80", "sudo", "sudo_not_allowed"),
        ("sudo=uid:80", "read", "insufficient_scope"),
        ("sudo=email:A@EXAMPLE.com", "sudo", "passes"),
        ("sudo=email:a@example.com.evil", "sudo", "sudo_not_allowed"),
        ("sudo=username:li", "sudo", "passes"),
        ("sudo=loginName:Li", "sudo", "sudo_not_allowed"),
        ("sudo=mobile:7", "sudo", "sudo_not_allowed"),
    ] {
        let scopes = Scopes::parse(scopes).unwrap();
        assert_eq!(
            word(sudo(query).allow(&scopes, &client)),
            expected,
            "{query}"
        );
    }
}

#[test]
fn the_missing_scope_is_named_in_the_clients_own_spelling() {
    for (own, named) in [
        ("sodu", "scope=\"sodu\""),
        ("sudo", "scope=\"sudo\""),
        ("read", "scope=\"sudo\""),
    ] {
        let client = file_client("demo", "s", own);
        let refusal = sudo("sudo=uid:1")
            .allow(&Scopes::default(), &client)
            .unwrap_err();
        let answer = refusal.render("id", false);
        let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains(named), "{challenge}");
    }
}

#[test]
fn one_user_has_one_bucket_however_spelled() {
    assert_eq!(sudo("sudo=username:li").limit_key(), "loginName:li");
    assert_eq!(sudo("sudo=loginName:li").limit_key(), "loginName:li");
    assert_eq!(sudo("sudo=email:A@B.c").limit_key(), "email:a@b.c");
    assert_eq!(sudo("sudo=username:li").as_str(), "username:li");
}

//! The tenant a request acts in.

use super::*;
use crate::clients::TenantGrant;
use crate::clients::tests_support::file_client;
use crate::gate::query;

fn word(query: &str, patterns: &[&str]) -> &'static str {
    let mut client = file_client("demo", "s", "read");
    client.tenants = TenantGrant::parse(patterns.iter().copied()).unwrap();
    let judged = read(&query::read(Some(query)))
        .and_then(Named::one)
        .and_then(|tenant| tenant.map_or(Ok(()), |tenant| tenant.allow(&client)));
    judged.map_or_else(|refusal| refusal.word().as_str(), |()| "passes")
}

#[test]
fn a_tenant_must_be_within_the_clients_own() {
    for (query, patterns, expected) in [
        ("a=1", &[][..], "passes"),
        ("tenantId=7", &["*"], "passes"),
        ("tenantId=7", &["id:7"], "passes"),
        ("TENANTID=7", &["id:7"], "passes"),
        ("tenantId=7", &["code:7"], "tenant_not_allowed"),
        ("tenantId=70", &["id:7"], "tenant_not_allowed"),
        ("tenantId=7", &[], "tenant_not_allowed"),
        ("tenantCode=ACME", &["code:ACME"], "passes"),
        ("tenantCode=acme", &["code:ACME"], "tenant_not_allowed"),
        ("tenantCode=ACME", &["id:ACME"], "tenant_not_allowed"),
    ] {
        assert_eq!(word(query, patterns), expected, "{query} {patterns:?}");
    }
}

#[test]
fn two_tenants_or_an_empty_one_are_refused() {
    for query in [
        "tenantId=7&tenantCode=ACME",
        "tenantId=7&tenantId=7",
        "tenantCode=a&tenantcode=a",
        "tenantId=&tenantCode=A",
        "tenantId=",
        "tenantId",
        "tenantCode=",
        "tenantId=+7",
        "tenantId=7%0A",
    ] {
        assert_eq!(word(query, &["*"]), "invalid_request", "{query}");
    }
}

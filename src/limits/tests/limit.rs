//! What limits promise, on a clock that is moved by hand.

use std::net::Ipv4Addr;

use super::*;
use crate::base::clock::{Clock, UnixMillis};
use crate::base::units::Rate;

fn settings(name: &str, key: &[KeyPart], rate: &str, burst: u32) -> Settings {
    Settings {
        name: name.to_owned(),
        key: key.to_vec(),
        rate: Rate::parse(rate).unwrap(),
        burst: burst.try_into().unwrap(),
        mode: Mode::Enforce,
        max_keys: 1_000,
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

fn caller(client: &str) -> KeyValues<'_> {
    KeyValues {
        client,
        ..KeyValues::of_ip(ip(1))
    }
}

struct Bench {
    limits: Limits,
    clock: Clock,
}

impl Bench {
    fn with(settings: &[Settings]) -> Self {
        Self {
            limits: Limits::new(settings, None),
            clock: Clock::manual(UnixMillis(0)),
        }
    }

    fn take(&self, names: &[&str], values: &KeyValues<'_>) -> Result<Vec<Spent>, Exceeded> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.limits
            .take(&self.limits.named(&names), values, self.clock.now())
    }

    fn passes(&self, names: &[&str], values: &KeyValues<'_>) -> bool {
        self.take(names, values).is_ok()
    }
}

#[test]
fn a_bucket_gives_its_burst_and_then_refills_at_its_rate() {
    let bench = Bench::with(&[settings("l", &[KeyPart::Client], "10/s", 3)]);
    let remaining: Vec<u32> = (0..3)
        .map(|_| bench.take(&["l"], &caller("a")).ok().unwrap()[0].remaining)
        .collect();
    assert_eq!(remaining, [2, 1, 0]);
    let refused = bench.take(&["l"], &caller("a")).err().unwrap();
    assert_eq!(refused.limit().name(), "l");
    assert_eq!(refused.retry_after, Duration::from_millis(100));
    bench.clock.advance(Duration::from_millis(99));
    assert!(!bench.passes(&["l"], &caller("a")));
    bench.clock.advance(Duration::from_millis(1));
    assert!(bench.passes(&["l"], &caller("a")));
    assert!(!bench.passes(&["l"], &caller("a")));
}

#[test]
fn each_key_has_its_own_bucket_and_missing_parts_share_one() {
    let bench = Bench::with(&[settings("l", &[KeyPart::Client, KeyPart::User], "1/min", 1)]);
    assert!(bench.passes(&["l"], &caller("a")));
    assert!(bench.passes(&["l"], &caller("b")));
    assert!(!bench.passes(&["l"], &caller("a")));
    let with_user = KeyValues {
        user: "uid:1",
        ..caller("a")
    };
    assert!(bench.passes(&["l"], &with_user));
}

#[test]
fn an_ipv6_caller_is_its_64_bit_network() {
    let bench = Bench::with(&[settings("l", &[KeyPart::Ip], "1/min", 1)]);
    let at = |text: &str| KeyValues::of_ip(text.parse().unwrap());
    assert!(bench.passes(&["l"], &at("2001:db8:1:1::1")));
    assert!(!bench.passes(&["l"], &at("2001:db8:1:1:ffff::2")));
    assert!(bench.passes(&["l"], &at("2001:db8:1:2::1")));
    assert!(bench.passes(&["l"], &at("192.0.2.9")));
    assert!(!bench.passes(&["l"], &at("::ffff:192.0.2.9")));
}

#[test]
fn a_refusal_by_one_limit_takes_nothing_from_another() {
    let bench = Bench::with(&[
        settings("narrow", &[KeyPart::Client], "1/h", 2),
        settings("wide", &[KeyPart::Global], "1/h", 3),
    ]);
    let both = ["wide", "narrow"];
    for _ in 0..2 {
        assert!(bench.passes(&both, &caller("noisy")));
    }
    for _ in 0..100 {
        assert!(!bench.passes(&both, &caller("noisy")));
    }
    assert!(
        bench.passes(&both, &caller("quiet")),
        "the noisy one left the wide budget alone"
    );
    // Now the wide one is spent: its refusal gives the narrow cell back.
    for _ in 0..100 {
        assert_eq!(
            bench
                .take(&both, &caller("other"))
                .err()
                .unwrap()
                .limit()
                .name(),
            "wide"
        );
    }
    assert!(
        bench.passes(&["narrow"], &caller("other")) && bench.passes(&["narrow"], &caller("other"))
    );
}

#[test]
fn a_shadow_limit_never_refuses_and_says_that_it_would_have() {
    let shadow = Settings {
        mode: Mode::Shadow,
        ..settings("s", &[KeyPart::Client], "1/h", 1)
    };
    let bench = Bench::with(&[shadow]);
    assert!(!bench.take(&["s"], &caller("a")).ok().unwrap()[0].over);
    assert!(bench.take(&["s"], &caller("a")).ok().unwrap()[0].over);
}

#[test]
fn a_changed_rate_holds_at_once_and_keeps_what_was_spent() {
    let bench = Bench::with(&[settings("l", &[KeyPart::Client], "1/s", 10)]);
    for _ in 0..10 {
        assert!(bench.passes(&["l"], &caller("a")));
    }
    let faster = Limits::new(
        &[settings("l", &[KeyPart::Client], "100/s", 10)],
        Some(&bench.limits),
    );
    let bench = Bench {
        limits: faster,
        clock: bench.clock,
    };
    assert!(!bench.passes(&["l"], &caller("a")), "still spent");
    bench.clock.advance(Duration::from_secs(10));
    for _ in 0..10 {
        assert!(bench.passes(&["l"], &caller("a")));
    }
    assert!(!bench.passes(&["l"], &caller("a")));
    bench.clock.advance(Duration::from_millis(10));
    assert!(bench.passes(&["l"], &caller("a")), "the new rate");
}

#[test]
fn failed_credentials_are_counted_by_address_without_being_configured() {
    let bench = Bench::with(&[]);
    let failures = (0..100)
        .filter(|_| {
            bench
                .limits
                .failed_credential(ip(1), bench.clock.now())
                .is_ok()
        })
        .count();
    assert_eq!(failures, 40);
    assert!(
        bench
            .limits
            .failed_credential(ip(2), bench.clock.now())
            .is_ok()
    );
}

#[test]
fn peeking_takes_nothing() {
    let bench = Bench::with(&[settings("l", &[KeyPart::Client], "1/h", 1)]);
    let limits = bench.limits.named(&["l".to_owned()]);
    for _ in 0..5 {
        assert!(
            bench
                .limits
                .peek(&limits, &caller("a"), bench.clock.now())
                .is_ok()
        );
    }
    assert!(bench.passes(&["l"], &caller("a")));
}

#[test]
fn what_is_left_and_when_there_is_more() {
    let bench = Bench::with(&[settings("l", &[KeyPart::Client], "1/s", 3)]);
    let first = bench.take(&["l"], &caller("a")).ok().unwrap();
    assert_eq!(
        (first[0].remaining, first[0].until_more()),
        (2, Duration::from_secs(1))
    );
    bench.take(&["l"], &caller("a")).ok().unwrap();
    let last = bench.take(&["l"], &caller("a")).ok().unwrap();
    assert_eq!(
        (last[0].remaining, last[0].until_more()),
        (0, Duration::from_secs(1))
    );
}

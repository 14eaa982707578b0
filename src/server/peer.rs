//! Who the client is: the peer of the connection or, behind trusted proxies, the last hop of
//! `X-Forwarded-For` that none of them is. What anyone else claims there is never believed.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address, IPv4 in IPv6 written as IPv4.
    pub ip: IpAddr,
    /// Whether the peer is a trusted proxy, whose `X-Forwarded-*` is kept.
    pub trusted: bool,
}

/// Tells who the client is. Every hop is judged from the right: what stands left of the first untrusted or
/// unreadable one was written by who knows whom.
#[must_use]
pub fn client(peer: &Peer, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> Client {
    let trusts = |ip: &IpAddr| trusted_proxies.iter().any(|net| net.contains(ip));
    let mut ip = peer.addr.ip().to_canonical();
    let trusted = trusts(&ip);
    if trusted {
        let lines = headers.get_all(X_FORWARDED_FOR).iter();
        let hops = lines
            .rev()
            .flat_map(|line| line.as_bytes().rsplit(|b| *b == b','));
        for hop in hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()) {
            // Unreadable ("unknown", a name): the proxy that wrote it is the last one known.
            let Some(address) = address(hop) else { break };
            ip = address;
            if !trusts(&ip) {
                break;
            }
        }
    }
    Client { ip, trusted }
}

/// Reads one hop: an address, in brackets or not, with a port or without.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    hop.parse()
        .ok()
        .or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))
        .or_else(|| bracketed().map(IpAddr::V6))
        .map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ask(peer: &str, lines: &[&[u8]]) -> (String, bool) {
        let local = SocketAddr::from(([10, 0, 0, 9], 8080));
        let addr = SocketAddr::new(peer.parse().unwrap(), 40_000);
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
        }
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .map(|net| net.parse().unwrap())
            .into();
        let client = client(&Peer { addr, local }, &headers, &trusted);
        (client.ip.to_string(), client.trusted)
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_claims() {
        assert_eq!(
            ask("192.0.2.1", &[b"10.0.0.1"]),
            ("192.0.2.1".into(), false)
        );
        assert_eq!(
            ask("::ffff:192.0.2.1", &[b"1.1.1.1"]),
            ("192.0.2.1".into(), false)
        );
    }

    #[test]
    fn behind_trusted_proxies_the_last_untrusted_hop_is_the_client() {
        let cases: [(&[&[u8]], &str); 13] = [
            (&[], "10.0.0.1"),
            (&[b"198.51.100.7"], "198.51.100.7"),
            (&[b"1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            (&[b"1.2.3.4", b"198.51.100.7 , 10.1.1.1"], "198.51.100.7"),
            (&[b"198.51.100.7", b"10.1.1.1,,fd00::1"], "198.51.100.7"),
            (&[b"198.51.100.7:4711"], "198.51.100.7"),
            (&[b"[2001:db8::1]:4711"], "2001:db8::1"),
            (&[b"[2001:db8::1]"], "2001:db8::1"),
            (&[b"2001:db8::1"], "2001:db8::1"),
            (&[b"::ffff:198.51.100.7"], "198.51.100.7"),
            (&[b"::ffff:10.1.1.1"], "10.1.1.1"),
            (&[b"10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            (&[b"", b" , "], "10.0.0.1"),
        ];
        for (lines, ip) in cases {
            assert_eq!(ask("10.0.0.1", lines), (ip.to_owned(), true), "{lines:?}");
        }
    }

    #[test]
    fn nothing_left_of_an_unreadable_hop_is_believed() {
        let unreadable: [&[u8]; 7] = [
            b"unknown",
            b"1.2.3",
            b"\xff",
            b"[::1",
            b"1.2.3.4:99999",
            b"\"1.2.3.4\"",
            b"a b",
        ];
        for hop in unreadable {
            let line = [b"6.6.6.6, ", hop].concat();
            assert_eq!(ask("10.0.0.1", &[&line]).0, "10.0.0.1", "{line:?}");
            let line = [b"6.6.6.6, ", hop, b", 10.2.2.2"].concat();
            assert_eq!(ask("10.0.0.1", &[&line]).0, "10.2.2.2", "{line:?}");
        }
    }
}

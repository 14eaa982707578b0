//! The suite that every engine passes, run for the embedded one, and what is particular to that.

mod conformance;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use super::settings::Settings;
use super::{OpenError, OpenMode, Stores, open};
use crate::base::clock::{Clock, UnixMillis};
use crate::base::oauth::{ClientId, Scopes};
use crate::tokens::{NewToken, TokenHash};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn later(seconds: u64) -> UnixMillis {
    NOW.plus(Duration::from_secs(seconds))
}

async fn try_open(file: &Path, mode: OpenMode) -> Result<Stores, OpenError> {
    let settings = Settings::Sqlite(file.to_owned());
    open(&settings, Clock::manual(NOW), mode).await
}

async fn opened(file: &Path) -> Stores {
    try_open(file, OpenMode::Create).await.unwrap()
}

fn id(text: &str) -> ClientId {
    ClientId::parse(text).unwrap()
}

fn hash(number: u64) -> TokenHash {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    TokenHash::from_bytes(bytes)
}

/// Issued at `NOW`, good for an hour.
fn token(number: u64, client: &str) -> NewToken {
    NewToken {
        hash: hash(number),
        client_id: id(client),
        scopes: Scopes::parse("sodu read").unwrap(),
        issued: NOW,
        expires: later(3_600),
    }
}

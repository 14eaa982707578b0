//! `[admin]`.

use crate::config::AdminSettings;
use crate::config::reader::Table;
use crate::config::values::{or_empty, path};

pub(in crate::config) fn read(root: &Table<'_>) -> AdminSettings {
    let mut table = root.child("admin");
    table.later(&["token", "api_listen"]);
    AdminSettings {
        socket: table.value("socket", None, or_empty(path)),
    }
}

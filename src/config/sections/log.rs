//! `[log]`.

use tracing::Level;

use crate::config::reader::Table;
use crate::config::values::{boolean, choice};
use crate::observe::settings::{Format, Settings};

const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

pub(in crate::config) fn read(root: &Table<'_>) -> Settings {
    let table = root.child("log");
    let default = Settings::default();
    let formats = [("json", Format::Json), ("text", Format::Text)];
    Settings {
        format: table.value("format", default.format, choice(&formats)),
        level: table.value("level", default.level, choice(&LEVELS)),
        access: table.value("access", default.access, boolean),
    }
}

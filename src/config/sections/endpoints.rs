//! `[endpoints]`.

use crate::config::reader::{Field, Table, Wrong};
use crate::config::values::{or_empty, url_path};
use crate::endpoints::settings::Settings;

pub(in crate::config) fn read(root: &Table<'_>) -> Settings {
    let mut table = root.child("endpoints");
    table.later(&[
        "oauth2",
        "authorization_service",
        "thingworx",
        "account",
        "auth",
    ]);
    let default = Settings::default();
    Settings {
        oauth2_server: table.value("oauth2_server", default.oauth2_server, or_empty(base_path)),
    }
}

fn base_path(field: &Field<'_>) -> Result<String, Wrong> {
    match url_path(field)?.as_str() {
        "/" => Err(Wrong::new(
            "own endpoints cannot live at the root, where they would hide the backend's",
            "write a path such as \"/api/oauth2/server\", or \"\" to switch them off",
        )),
        path => Ok(path.to_owned()),
    }
}

/// The paths that Sidegate answers itself and that never reach a route.
pub(in crate::config) fn own_paths(settings: &Settings) -> Vec<String> {
    let names = ["tokens", "tokens/check", "tokens/revoke"];
    let base = settings.oauth2_server.iter();
    base.flat_map(|base| names.map(|name| format!("{base}/{name}")))
        .collect()
}

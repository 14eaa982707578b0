//! `[store]`.

use std::path::Path;

use crate::config::reader::{Field, Table, Wrong};
use crate::store::settings::Settings;

/// The embedded store where nothing is said, beside the configuration.
const DEFAULT_FILE: &str = "sidegate.db";

pub(in crate::config) fn read(root: &Table<'_>) -> Settings {
    let mut table = root.child("store");
    table.later(&["encryption_key", "encryption_keys"]);
    let base: &Path = table.reading().base;
    let default = Settings::Sqlite(base.join(DEFAULT_FILE));
    table.value("url", default, |field| url(field, base))
}

const MEND: &str = "write \"sqlite:\" and the path of a file, such as \"sqlite:sidegate.db\" or \
                    \"sqlite:/var/lib/sidegate/sidegate.db\"";

/// Messages never repeat the URL: those of other engines hold passwords.
fn url(field: &Field<'_>, base: &Path) -> Result<Settings, Wrong> {
    let text = field.text(MEND)?;
    let later = ["postgres://", "postgresql://", "authority+"];
    if later.iter().any(|scheme| text.starts_with(scheme)) {
        return Err(Wrong::new(
            "this version of Sidegate does not have this kind of store yet",
            MEND,
        ));
    }
    match text.strip_prefix("sqlite:") {
        None => Err(Wrong::new("this is no URL of a store", MEND)),
        Some(path) if path.is_empty() || path.ends_with('/') => {
            Err(Wrong::new("it names no file", MEND))
        }
        // Other programs read two slashes as the start of a relative path, the system as an absolute one.
        Some(path) if path.starts_with("//") => Err(Wrong::new(
            "slashes behind \"sqlite:\" read in two ways",
            MEND,
        )),
        Some(path) if path.contains(['?', '\0', '#']) || path.starts_with(':') => {
            Err(Wrong::new("the store is a file, without parameters", MEND))
        }
        Some(path) => Ok(Settings::Sqlite(base.join(path))),
    }
}

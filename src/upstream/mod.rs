//! The way out: connections to the services behind Sidegate. Opens only to a `gate::Permit`.

pub mod settings;

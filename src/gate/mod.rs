//! May this request pass, and as whom: the steps of contract §3, one file each. Opens no socket,
//! reads no clock, keeps nothing of its own.

pub mod path;
pub mod route;
pub mod settings;

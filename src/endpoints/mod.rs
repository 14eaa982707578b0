//! Sidegate's own HTTP: the endpoints of contract §5 on the data listener, and the admin listener.

pub mod settings;

//! Sidegate.
fn main() {}

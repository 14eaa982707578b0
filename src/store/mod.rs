//! Where tokens and clients are kept: implements the traits that the features declare.

pub mod settings;

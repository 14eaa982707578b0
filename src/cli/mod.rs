//! The commands of contract §1, one file each.

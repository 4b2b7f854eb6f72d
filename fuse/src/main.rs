//! mount.persist
mod fs;
fn main() {}

//! mount.persist
fn main() {}

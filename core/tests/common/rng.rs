//! The seed of the random numbers, and the duration of a test.

/// The duration: `quick`, or the value of PERSIST_TORTURE_SECONDS.
pub fn time(quick: u64) -> std::time::Duration {
    let seconds = std::env::var("PERSIST_TORTURE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    std::time::Duration::from_secs(seconds.unwrap_or(quick))
}

/// The seed: `usual`, or the value of PERSIST_SEED.
pub fn seed(usual: u64) -> u64 {
    let seed = std::env::var("PERSIST_SEED").ok().and_then(|s| s.parse().ok());
    seed.unwrap_or(usual)
}

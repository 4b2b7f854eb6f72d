//! Where random numbers begin, and how long a test goes on with them.

/// How long to run: `quick`, or what PERSIST_TORTURE_SECONDS says.
pub fn time(quick: u64) -> std::time::Duration {
    let seconds = std::env::var("PERSIST_TORTURE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    std::time::Duration::from_secs(seconds.unwrap_or(quick))
}

/// Where to begin: what PERSIST_SEED says, or here.
pub fn seed(usual: u64) -> u64 {
    let seed = std::env::var("PERSIST_SEED").ok().and_then(|s| s.parse().ok());
    seed.unwrap_or(usual)
}

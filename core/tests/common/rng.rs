//! Random numbers that a seed repeats, where they begin, and how long a test goes on with them.

/// A small deterministic generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n` (0 for 0).
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 {
            0
        } else {
            (self.next() % n as u64) as usize
        }
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

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

//! Which leases a section has looked at: those of what it changes (`leases`).

/// The buckets that a section notes one by one.
const NOTED: usize = 6;

/// The buckets of what a section changes.
#[derive(Debug, Default)]
pub(super) struct Touched {
    buckets: [u16; NOTED],
    len: usize,
}

impl Touched {
    #[inline(always)]
    pub(super) fn note(&mut self, bucket: u16) {
        if let Some(place) = self.buckets.get_mut(self.len) {
            *place = bucket;
        }
        self.len += 1;
    }

    pub(super) fn note_all(&mut self) {
        self.len = NOTED + 1;
    }

    /// Return the buckets; None: they are too many, or all.
    pub(super) fn noted(&self) -> Option<&[u16]> {
        self.buckets.get(..self.len)
    }
}

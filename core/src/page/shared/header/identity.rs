//! The identity of a sidecar: its layout, and the store, boot and attachment of the disk that it was made for. These
//! words never change, and the signature covers them (`seal`).

use crate::page::shared::shm::Shm;
use crate::page::shared::word::{Word, Words};

const LAYOUT: Word = Word::at(8);
/// Written last when the sidecar is made.
const READY: Word = Word::at(16);
const BOOT: Word = Word::at(24);
const DEV: Word = Word::at(32);
const INO: Word = Word::at(40);
const UUID: Word = Word::at(48); // 2 words
/// The attachment of the disk on which it was made (`raw::boot`); 0: not known.
const ATTACHED: Word = Word::at(72);

/// The identity of a sidecar.
#[derive(Clone, Copy, Default)]
pub(in crate::page) struct Identity {
    pub(in crate::page) layout: u64,
    pub(in crate::page) boot: u64,
    pub(in crate::page) dev: u64,
    pub(in crate::page) ino: u64,
    pub(in crate::page) uuid: [u64; 2],
    pub(in crate::page) attached: u64,
    pub(in crate::page) ready: bool,
}

impl Identity {
    /// Read the identity.
    pub(in crate::page) fn of(words: &impl Words) -> Identity {
        Identity {
            layout: words.value(LAYOUT),
            boot: words.value(BOOT),
            dev: words.value(DEV),
            ino: words.value(INO),
            uuid: [UUID, UUID.nth(1)].map(|word| words.value(word)),
            attached: words.value(ATTACHED),
            ready: words.value(READY) == 1,
        }
    }

    /// Return whether the sidecar was made for this file.
    pub(in crate::page) fn is_of(&self, dev: u64, ino: u64, uuid: [u64; 2]) -> bool {
        (self.dev, self.ino, self.uuid) == (dev, ino, uuid)
    }
}

impl Shm {
    /// Return the store's uuid.
    pub(in crate::page) fn uuid(&self) -> [u64; 2] {
        [UUID, UUID.nth(1)].map(|word| self.get(word))
    }

    /// Give a new sidecar its identity.
    pub(in crate::page) fn identify(&self, identity: &Identity) {
        for (word, value) in [
            (LAYOUT, identity.layout),
            (BOOT, identity.boot),
            (DEV, identity.dev),
            (INO, identity.ino),
            (UUID, identity.uuid[0]),
            (UUID.nth(1), identity.uuid[1]),
            (ATTACHED, identity.attached),
            (READY, u64::from(identity.ready)),
        ] {
            self.set(word, value);
        }
    }
}

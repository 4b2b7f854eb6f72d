//! The header of a sidecar's file: whether it is complete, and whether it belongs to this store and to its newest
//! checkpoint. These functions write nothing and map nothing.

use crate::error::{Error, Result};
use crate::page::format::meta::Meta;
use crate::page::format::newest::read_up_to;
use crate::page::shared::header::identity::Identity;
use crate::page::shared::header::last_checkpoint::meta_sum_of;
use crate::page::shared::header::next_checkpoint::{NextCheckpoint, SWITCHING, WRITING, WRITTEN};
use crate::page::shared::header::seal::signature_of;
use crate::page::shared::layout;
use crate::page::shared::shm::Shm;
use crate::page::shared::shm::is_sidecar;
use crate::page::shared::word::{Word, Words};
use crate::raw::files::file;
use std::fs::File;

/// Return whether a sidecar has this layout and belongs to this store.
pub(in crate::page) fn belongs(shm: &Shm, file: &File, meta: &Meta) -> Result<bool> {
    let id = file::identity(file).map_err(|e| Error::io("fstat", e))?;
    let known = Identity::of(shm);
    Ok(is_sidecar(shm)
        && known.layout == layout::LAYOUT
        && known.ready
        && known.is_of(id.dev, id.ino, meta.uuid))
}

/// Return whether the file's newest checkpoint is the one that the sidecar builds on, or the one that it was writing.
pub(in crate::page) fn is_current(head: &Header, meta: &Meta, meta_sum: u64) -> bool {
    if meta_sum_of(head) == meta_sum {
        return true;
    }
    let next = NextCheckpoint::of(head);
    matches!(next.phase(), WRITING | WRITTEN | SWITCHING)
        && next.epoch() == meta.checkpoint
        && next.image_sum() == meta_sum
}

/// The beginning of a sidecar's file: header words and the image of a meta page.
pub(in crate::page) struct Header(Box<[u8; layout::HEADER]>);

impl Words for Header {
    fn value(&self, word: Word) -> u64 {
        let (at, mut b) = (word.offset(), [0; 8]);
        b.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(b)
    }
}

/// What the beginning of a sidecar's file identifies it as.
pub(in crate::page) enum Named {
    Whole(Header),
    /// It cannot be identified, for this reason.
    Not(&'static str),
}

/// Read the beginning of a sidecar, without mapping it.
pub(in crate::page) fn header(side: &File) -> std::io::Result<Named> {
    let mut head = Header(Box::new([0; layout::HEADER]));
    if read_up_to(side, &mut head.0[..], 0)? < layout::HEADER {
        return Ok(Named::Not("was cut short"));
    }
    if head.0[..layout::IDENTITY_END].iter().all(|b| *b == 0) {
        return Ok(Named::Not("is blank"));
    }
    if !is_sidecar(&head) {
        return Ok(Named::Not("is not a sidecar of persist, or is damaged"));
    }
    let (signature, fits) = signature_of(&head, &head.0[..]);
    let known = Identity::of(&head);
    // Layouts before the first signed one have no signature.
    let unsigned = known.layout as u32 <= layout::LAST_UNSIGNED && signature == 0;
    if !fits && !unsigned || !known.ready {
        return Ok(Named::Not("is damaged (header)"));
    }
    Ok(Named::Whole(head))
}

//! The header of a sidecar's file: whether it is complete, and whether it belongs to this store and to its newest
//! checkpoint. These functions write nothing and map nothing.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::format::meta::Meta;
use crate::page::format::newest::read_up_to;
use crate::page::shared::shm::Shm;
use crate::page::shared::{at, layout, states};
use crate::raw::file;
use std::fs::File;

/// Return whether a sidecar has this layout and belongs to this store.
pub(in crate::page) fn belongs(shm: &Shm, file: &File, meta: &Meta) -> Result<bool> {
    let id = file::identity(file).map_err(|e| Error::io("fstat", e))?;
    Ok(shm.get(at::MAGIC) == layout::MAGIC
        && shm.get(at::LAYOUT) == layout::LAYOUT
        && shm.get(at::READY) == 1
        && shm.get(at::DEV) == id.dev
        && shm.get(at::INO) == id.ino
        && shm.get(at::UUID) == meta.uuid[0]
        && shm.get(at::UUID + 8) == meta.uuid[1])
}

/// Return whether the file's newest checkpoint is the one that the sidecar builds on, or the one that it was writing.
pub(in crate::page) fn is_current(head: &Header, meta: &Meta, meta_sum: u64) -> bool {
    if head.get(at::META_SUM) == meta_sum {
        return true;
    }
    matches!(
        head.get(at::CK_PHASE),
        states::WRITING | states::WRITTEN | states::SWITCHING
    ) && head.get(at::CK_EPOCH) == meta.checkpoint
        && head.get(layout::META_IMAGE + PAGE_SIZE - 8) == meta_sum
}

/// The beginning of a sidecar's file: header words and the image of a meta page.
pub(in crate::page) struct Header(Box<[u8; HEADER]>);

const HEADER: usize = layout::META_IMAGE + PAGE_SIZE;

impl Header {
    /// Return a word of the header.
    pub(in crate::page) fn get(&self, at: usize) -> u64 {
        let mut b = [0; 8];
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
    let mut head = Header(Box::new([0; HEADER]));
    if read_up_to(side, &mut head.0[..], 0)? < HEADER {
        return Ok(Named::Not("was cut short"));
    }
    if head.0[..at::EPOCH].iter().all(|b| *b == 0) {
        return Ok(Named::Not("is blank"));
    }
    if head.get(at::MAGIC) != layout::MAGIC {
        return Ok(Named::Not("is not a sidecar of persist, or is damaged"));
    }
    let sum = crate::page::shared::seal::signature(&head.0[..]);
    // Layouts before the first signed one have no signature.
    let unsigned = head.get(at::LAYOUT) as u32 <= layout::LAST_UNSIGNED && head.get(at::IDENTITY) == 0;
    if head.get(at::IDENTITY) != sum && !unsigned || head.get(at::READY) != 1 {
        return Ok(Named::Not("is damaged (header)"));
    }
    Ok(Named::Whole(head))
}

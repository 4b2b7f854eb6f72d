//! Values of header words that name a state: the phases of a checkpoint (`at::CK_PHASE`) and the reasons of a poisoned
//! store (`at::POISON`). `checkpoint::phases` states what the phases mean, and `recovery::damage` what poisons a store.

/// The phases (`checkpoint`).
pub(crate) const IDLE: u64 = 0;
pub(crate) const BUILDING: u64 = 1;
pub(crate) const WRITING: u64 = 2;
pub(crate) const FREEING: u64 = 3;
pub(crate) const SWITCHING: u64 = 4;
pub(crate) const WRITTEN: u64 = 5;

/// A flush failed.
pub(crate) const FLUSH: u64 = u64::from_le_bytes(*b"no flush");
/// The state can be neither trusted nor undone: the gate stays raised, and readers get an error too.
pub(crate) const UNDOABLE: u64 = u64::from_le_bytes(*b"undoable");
/// A page of the store or of the sidecar could not be reached.
pub(crate) const LOST: u64 = u64::from_le_bytes(*b"lost....");

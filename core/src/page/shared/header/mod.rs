//! The first page of the sidecar: its words, each owned by one protocol.
//!
//! A file owns the words of its private constants and their rules; other files call its methods. A protocol that only
//! one higher wing uses owns its words there: `word` has the table of all words with their owners.
//!
//! | FILE | ITS PROTOCOL |
//! | --- | --- |
//! | `identity` | which store, boot and disk the sidecar belongs to |
//! | `seal` | signature and seal: whether the sidecar is complete |
//! | `live` | the current state: epoch, sizes, number of changes |
//! | `last_checkpoint` | the last durable checkpoint, and the one before it |
//! | `next_checkpoint` | the checkpoint in progress: its phase, and the values that it took at the flip |
//! | `checkpoint_owner` | which thread makes the checkpoint |
//! | `helpers` | what wakes the helper threads, and which one leads |
//! | `poison` | why the store is closed for changes |
//! | `log_mode` | whether changes go to the redo log |
//! | `gate` | the words of the gate, and the guard of the writer that has raised it |
//! | `latch` | the words of the latch and of its turn |

pub(in crate::page) mod checkpoint_owner;
pub(in crate::page) mod gate;
pub(in crate::page) mod helpers;
pub(in crate::page) mod identity;
pub(in crate::page) mod last_checkpoint;
pub(in crate::page) mod latch;
pub(in crate::page) mod live;
pub(in crate::page) mod log_mode;
pub(in crate::page) mod next_checkpoint;
pub(in crate::page) mod poison;
pub(in crate::page) mod seal;

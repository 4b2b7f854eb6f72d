//! Durable commits: waiting until a completed change survives a power failure, by one flush of the redo log for many
//! waiters (`sync::group`), or by a checkpoint. The log and its modes: `redo`.

mod leader;
mod wait;

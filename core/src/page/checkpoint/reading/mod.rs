//! Reading whole checkpoints: finding the newest one, walking a frozen one, and verifying it.

pub(in crate::page) mod source;
pub mod verify;
pub(crate) mod view;

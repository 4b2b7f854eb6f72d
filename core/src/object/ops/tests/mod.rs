//! Tests of the operations.

mod adopt;
mod edit;
mod exchange;
mod general;
mod metadata;

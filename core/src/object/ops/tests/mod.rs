//! Tests of the operations.

mod adopt;
mod classed;
mod edit;
mod exchange;
mod general;
mod metadata;
mod sorted;

//! The only mapping and pointer code.

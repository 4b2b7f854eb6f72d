//! Attributes against a list of pairs as the model.

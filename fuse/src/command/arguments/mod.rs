//! The command line: its definition, the table of mount options, what they ask for, and the manual made from them.

#[cfg(test)]
pub(in crate::command) mod manual;
pub(crate) mod options;
pub(crate) mod settings;
pub(crate) mod table;

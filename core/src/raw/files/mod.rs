//! Files: operations on them, descriptors that detect reuse, access rights, files beside a store, files without a name,
//! and large files beside other work.

pub(crate) mod file;
pub(crate) mod held;
pub(crate) mod owner;
pub(crate) mod place;
pub(crate) mod side_files;
pub(crate) mod unnamed;

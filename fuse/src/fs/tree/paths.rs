//! The paths of containers, and the text of symlinks to them.

use super::filesystem::Fs;
use super::values::owned_key;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Spot;
use crate::fs::text::{list_entries, names};
use persist_core::store::{Obj, Reader, Step};

/// The maximal depth of a path: a path of 4096 bytes cannot be deeper.
const MAX_DEPTH: usize = 2048;

impl Fs {
    /// The path of a container: the names from the root to it.
    pub(crate) fn path(&self, r: &Reader<'_>, mut obj: Obj) -> FsResult<Vec<Vec<u8>>> {
        let mut path = Vec::new();
        while obj != self.root {
            let (parent, name) = self.above(r, obj)?;
            path.push(name);
            obj = parent;
            if path.len() > MAX_DEPTH {
                return errno(libc::ELOOP);
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The directory that shows a container, and its name there.
    pub(crate) fn above(&self, r: &Reader<'_>, obj: Obj) -> FsResult<(Obj, Vec<u8>)> {
        match r.home(obj)? {
            Some((parent, Step::Key(key))) => {
                let key = owned_key(r, &key)?;
                match r.list_of_waiting(parent)? {
                    Some(list) => Ok((list, list_entries::name_beside(&key))),
                    None => Ok((parent, names::name_of(&key))),
                }
            }
            Some((parent, Step::Index(index))) => {
                let index = i64::try_from(index).unwrap_or(i64::MAX);
                match self.name_at(r, parent, index)? {
                    Some(name) => Ok((parent, name.to_string().into_bytes())),
                    None => errno(libc::ENOENT),
                }
            }
            None => errno(libc::ENOENT),
        }
    }

    /// True if the container is a directory at this spot, and not a symlink.
    pub(crate) fn shown_at(&self, r: &Reader<'_>, obj: Obj, spot: &Spot) -> FsResult<bool> {
        Ok(r.is_home(obj, spot.parent, &self.step(r, spot)?)?)
    }

    /// True if `obj` is `top` or is shown below it.
    pub(crate) fn is_below(&self, r: &Reader<'_>, mut obj: Obj, top: Obj) -> FsResult<bool> {
        for _ in 0..MAX_DEPTH {
            if obj == top {
                return Ok(true);
            }
            if obj == self.root {
                return Ok(false);
            }
            obj = match self.above(r, obj) {
                Ok((parent, _)) => parent,
                // The directory was removed while a process uses it.
                Err(FsError::Errno(libc::ENOENT)) => return Ok(false),
                Err(e) => return Err(e),
            };
        }
        errno(libc::ELOOP)
    }

    /// The text of a symlink in `from` to the home of `to`.
    pub(crate) fn link_text(&self, r: &Reader<'_>, from: Obj, to: Obj) -> FsResult<Vec<u8>> {
        let from = self.shown_in(r, from)?;
        let (from, to) = (self.path(r, from)?, self.path(r, to)?);
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let mut parts: Vec<&[u8]> = vec![b".."; from.len() - common];
        parts.extend(to[common..].iter().map(Vec::as_slice));
        if parts.is_empty() {
            parts.push(b".");
        }
        Ok(parts.join(&b'/'))
    }
}

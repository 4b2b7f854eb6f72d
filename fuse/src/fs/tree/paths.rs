//! Where containers are shown: their paths, and the text of symlinks to them.

use super::filesystem::Fs;
use super::values::owned_key;
use crate::fs::context::lock;
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::Spot;
use crate::fs::text::names;
use persist_core::store::{Obj, Reader, Step};

/// Deepest path that is followed: more cannot be said in a path of 4096 bytes.
const MAX_DEPTH: usize = 2048;

impl Fs {
    /// Where the container is shown: the names from the root to it.
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

    /// The directory a container is shown in, and its name there.
    pub(crate) fn above(&self, r: &Reader<'_>, obj: Obj) -> FsResult<(Obj, Vec<u8>)> {
        // A directory that waits beside a list is at home there, whatever else refers to it.
        if let Some(beside) = self.side_home(obj) {
            return Ok(beside);
        }
        match r.home(obj)? {
            Some((parent, Step::Key(key))) => Ok((parent, names::name_of(&owned_key(r, &key)?))),
            Some((parent, Step::Index(index))) => Ok((parent, index.to_string().into_bytes())),
            None => errno(libc::ENOENT),
        }
    }

    fn side_home(&self, obj: Obj) -> Option<(Obj, Vec<u8>)> {
        lock(&self.sides).home(obj.id)
    }

    /// True if a directory is shown at this spot, and not a symlink.
    pub(crate) fn shown_at(&self, r: &Reader<'_>, obj: Obj, spot: &Spot) -> FsResult<bool> {
        Ok(r.is_home(obj, spot.parent, &self.step(spot)?)? && self.side_home(obj).is_none())
    }

    /// True if `obj` is `top` or is shown somewhere below it.
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
                // A directory that was removed while somebody is in it.
                Err(FsError::Errno(libc::ENOENT)) => return Ok(false),
                Err(e) => return Err(e),
            };
        }
        errno(libc::ELOOP)
    }

    /// The length of that text. A target too deep for any text is no reason not to list its symlink.
    pub(crate) fn link_size(&self, r: &Reader<'_>, from: Obj, to: Obj) -> FsResult<u64> {
        match self.link_text(r, from, to) {
            Ok(text) => Ok(text.len() as u64),
            Err(FsError::Errno(libc::ELOOP)) => Ok(libc::PATH_MAX as u64),
            Err(e) => Err(e),
        }
    }

    /// The text of a symlink in `from` to the home of `to`.
    pub(crate) fn link_text(&self, r: &Reader<'_>, from: Obj, to: Obj) -> FsResult<Vec<u8>> {
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

//! A tree of files in memory.
//!
//! 1. A node is freed when the kernel forgets it and no name is left.
//! 2. Numbers of nodes, and positions in a directory, are not used again.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

pub(crate) const ROOT: u64 = 1;

/// The errno of a request that fails.
pub(crate) type Errno = i32;

#[derive(Default)]
pub(crate) struct Dir {
    pub(crate) parent: u64,
    positions: HashMap<Box<[u8]>, u64>,
    /// The entries by position.
    pub(crate) entries: BTreeMap<u64, (Box<[u8]>, u64)>,
    last: u64,
}

impl Dir {
    pub(crate) fn get(&self, name: &[u8]) -> Option<u64> {
        let position = self.positions.get(name)?;
        self.entries.get(position).map(|(_, ino)| *ino)
    }

    fn insert(&mut self, name: &[u8], ino: u64) {
        self.last += 1;
        self.positions.insert(name.into(), self.last);
        self.entries.insert(self.last, (name.into(), ino));
    }

    fn remove(&mut self, name: &[u8]) {
        if let Some(position) = self.positions.remove(name) {
            self.entries.remove(&position);
        }
    }
}

pub(crate) enum Body {
    File(Vec<u8>),
    Link(Vec<u8>),
    Dir(Dir),
}

pub(crate) struct Node {
    pub(crate) body: Body,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) atime: SystemTime,
    pub(crate) mtime: SystemTime,
    pub(crate) ctime: SystemTime,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Node {
    pub(crate) fn new(body: Body, mode: u32, uid: u32, gid: u32) -> Node {
        let now = SystemTime::now();
        Node {
            links: if matches!(body, Body::Dir(_)) { 2 } else { 1 },
            body,
            mode: (mode & 0o7777) as u16,
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            xattrs: BTreeMap::new(),
        }
    }

    pub(crate) fn file(&mut self) -> Result<&mut Vec<u8>, Errno> {
        match &mut self.body {
            Body::File(content) => Ok(content),
            Body::Link(_) => Err(libc::EINVAL),
            Body::Dir(_) => Err(libc::EISDIR),
        }
    }

    fn modified(&mut self) {
        self.mtime = SystemTime::now();
        self.ctime = self.mtime;
    }
}

pub(crate) struct Tree {
    nodes: Vec<Option<Node>>,
}

impl Tree {
    /// A copy of a directory. Extended attributes are not copied.
    pub(crate) fn load(from: &Path) -> io::Result<Tree> {
        let mut tree = Tree { nodes: vec![None] };
        let root = tree.add(Node::new(Body::Dir(Dir::default()), 0o755, 0, 0));
        tree.load_into(root, from)?;
        Ok(tree)
    }

    fn load_into(&mut self, parent: u64, from: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let (path, meta) = (entry.path(), entry.metadata()?);
            let body = if meta.is_dir() {
                Body::Dir(Dir::default())
            } else if meta.is_symlink() {
                Body::Link(std::fs::read_link(&path)?.as_os_str().as_bytes().to_vec())
            } else {
                Body::File(std::fs::read(&path)?)
            };
            let mut node = Node::new(body, meta.mode(), meta.uid(), meta.gid());
            node.mtime = meta.modified()?;
            let ino = self
                .create(parent, entry.file_name().as_bytes(), node)
                .map_err(io::Error::from_raw_os_error)?;
            if meta.is_dir() {
                self.load_into(ino, &path)?;
            }
            // After its entries.
            self.get_mut(ino).map_err(io::Error::from_raw_os_error)?.mtime = meta.modified()?;
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> u64 {
        self.nodes.push(Some(node));
        self.nodes.len() as u64 - 1
    }

    pub(crate) fn get(&self, ino: u64) -> Result<&Node, Errno> {
        self.nodes
            .get(ino as usize)
            .and_then(Option::as_ref)
            .ok_or(libc::ESTALE)
    }

    pub(crate) fn get_mut(&mut self, ino: u64) -> Result<&mut Node, Errno> {
        self.nodes
            .get_mut(ino as usize)
            .and_then(Option::as_mut)
            .ok_or(libc::ESTALE)
    }

    pub(crate) fn dir(&self, ino: u64) -> Result<&Dir, Errno> {
        match &self.get(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(libc::ENOTDIR),
        }
    }

    /// A directory that is about to be changed.
    fn dir_mut(&mut self, ino: u64) -> Result<&mut Dir, Errno> {
        let node = self.get_mut(ino)?;
        node.modified();
        match &mut node.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(libc::ENOTDIR),
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &[u8]) -> Result<u64, Errno> {
        self.dir(parent)?.get(name).ok_or(libc::ENOENT)
    }

    pub(crate) fn create(&mut self, parent: u64, name: &[u8], mut node: Node) -> Result<u64, Errno> {
        if self.dir(parent)?.get(name).is_some() {
            return Err(libc::EEXIST);
        }
        if let Body::Dir(dir) = &mut node.body {
            dir.parent = parent;
            self.get_mut(parent)?.links += 1;
        }
        let ino = self.add(node);
        self.dir_mut(parent)?.insert(name, ino);
        Ok(ino)
    }

    /// Remove an entry: a directory, which must be empty, or another entry.
    pub(crate) fn remove(&mut self, parent: u64, name: &[u8], is_dir: bool) -> Result<(), Errno> {
        let ino = self.lookup(parent, name)?;
        match (&self.get(ino)?.body, is_dir) {
            (Body::Dir(dir), true) if !dir.entries.is_empty() => return Err(libc::ENOTEMPTY),
            (Body::Dir(_), false) => return Err(libc::EISDIR),
            (Body::File(_) | Body::Link(_), true) => return Err(libc::ENOTDIR),
            _ => {}
        }
        self.dir_mut(parent)?.remove(name);
        self.get_mut(ino)?.links = 0;
        if is_dir {
            self.get_mut(parent)?.links -= 1;
        }
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        (parent, name): (u64, &[u8]),
        (to, new_name): (u64, &[u8]),
        replace: bool,
    ) -> Result<(), Errno> {
        let ino = self.lookup(parent, name)?;
        let is_dir = matches!(self.get(ino)?.body, Body::Dir(_));
        if let Some(there) = self.dir(to)?.get(new_name) {
            if !replace {
                return Err(libc::EEXIST);
            }
            if there == ino {
                return Ok(());
            }
            self.remove(to, new_name, is_dir)?;
        }
        self.dir_mut(parent)?.remove(name);
        self.dir_mut(to)?.insert(new_name, ino);
        if is_dir {
            self.get_mut(parent)?.links -= 1;
            self.get_mut(to)?.links += 1;
            self.dir_mut(ino)?.parent = to;
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, ino: u64, offset: Option<u64>, data: &[u8]) -> Result<(), Errno> {
        let node = self.get_mut(ino)?;
        node.modified();
        let content = node.file()?;
        let at = offset.map_or(content.len(), |offset| offset as usize);
        let end = at.checked_add(data.len()).ok_or(libc::EFBIG)?;
        if content.len() < end {
            content.resize(end, 0);
        }
        content[at..end].copy_from_slice(data);
        Ok(())
    }

    pub(crate) fn truncate(&mut self, ino: u64, size: u64) -> Result<(), Errno> {
        let node = self.get_mut(ino)?;
        node.modified();
        let content = node.file()?;
        if size == 0 {
            *content = Vec::new();
        }
        content.resize(size as usize, 0);
        Ok(())
    }

    pub(crate) fn forget(&mut self, ino: u64) {
        if let Some(node) = self.nodes.get_mut(ino as usize)
            && node.as_ref().is_some_and(|node| node.links == 0)
        {
            *node = None;
        }
    }

    /// Return whether a forgotten node is to be freed.
    pub(crate) fn is_removed(&self, ino: u64) -> bool {
        self.get(ino).is_ok_and(|node| node.links == 0)
    }
}

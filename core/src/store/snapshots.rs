//! Snapshots: a store's states kept by name.
//!
//! ```
//! use persist_core::store::{Actor, In, Key, Options, Store, Value, Wait};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("a.store");
//! let store = Store::open(&path, &Options::default())?;
//! let root = store.root();
//! let set = |n| store.write(Actor::Thread, &mut Wait::default(), |w| w.set(root, &Key::Str(b"n"), &In::Int(n)));
//! set(1)?;
//! store.snapshot("before")?;
//! set(2)?;
//! let before = store.open_snapshot("before")?;
//! let n = before.read(&mut Wait::default(), |r| r.get(before.root(), &Key::Str(b"n")))?;
//! assert_eq!(n, Some(Value::Int(1)));
//! before.close()?;
//! store.drop_snapshot("before")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::{Error, Options, PageWalk, Result, Snapshot, Store};

impl Store {
    /// On a full disk a snapshot does as a change does: the free pages of a store that was just opened are found only
    /// by a rebuild of the free map, and pages of old checkpoints may be all that fills the disk.
    fn with_room<R>(&self, mut f: impl FnMut() -> Result<R>) -> Result<R> {
        match f() {
            Err(Error::NoSpace { .. }) if !self.in_transaction() && self.sync_forcing().is_ok() => f(),
            done => done,
        }
    }

    /// Keeps the state of now under a name: makes a checkpoint, and copies nothing. What is changed later
    /// takes new space until the snapshot is dropped.
    ///
    /// # Errors
    /// `Error::Invalid` for a name that is empty, longer than 255 bytes, `.`, `..`, or holds `/` or a control
    /// character, and inside a transaction; `Error::SnapshotExists`; `Error::TooMany` (`MAX_SNAPSHOTS`);
    /// `Error::ReadOnly`; those of `sync`.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot> {
        self.pager().outside_sections()?;
        self.with_room(|| self.pager().take_snapshot(name))
    }

    /// The snapshots, the oldest first. Those of an open snapshot's store, too.
    ///
    /// # Errors
    /// `Error::Corrupt`, `Error::Io`.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.pager().outside_sections()?;
        self.pager().snapshots()
    }

    /// Lets go of a snapshot, and frees what only it held. What cannot be freed at once is freed with later
    /// checkpoints.
    ///
    /// # Errors
    /// `Error::NoSnapshot`; `Error::InUse` while somebody has it open; those of `snapshot`.
    pub fn drop_snapshot(&self, name: &str) -> Result<()> {
        self.pager().outside_sections()?;
        self.with_room(|| self.pager().drop_snapshot(name))
    }

    /// Opens a snapshot of this store: a store of its own, for reading only (`Options::snapshot` does it
    /// from a path). While it is open the snapshot cannot be dropped.
    ///
    /// # Errors
    /// `Error::NoSnapshot`; those of `open`.
    pub fn open_snapshot(&self, name: &str) -> Result<Store> {
        let opened = Store::open(
            self.path(),
            &Options {
                read_only: true,
                create: false,
                lock_timeout: self.pager().bound(),
                snapshot: Some(name.to_owned()),
                ..Options::default()
            },
        )?;
        if self.pager().is_same_file(opened.pager()) {
            return Ok(opened);
        }
        Err(Error::Refused {
            path: self.path().to_owned(),
            why: "another file has taken its place; open that one".to_owned(),
        })
    }

    /// The snapshot that this is an opening of.
    #[must_use]
    pub fn opened_snapshot(&self) -> Option<&Snapshot> {
        self.pager().snapshot()
    }

    /// One checkpoint only is seen here, and never changes: a snapshot, or the last checkpoint of a store
    /// that could only be read.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.pager().is_frozen()
    }

    /// The logical pages of an open snapshot, each compared with its checksum; with `since`, another open
    /// snapshot of the same store, those in which this one differs from it. For backups and checks.
    ///
    /// # Errors
    /// `Error::Invalid` if a store is not an open snapshot, or not of the same file.
    pub fn pages<'a>(&'a self, since: Option<&'a Store>) -> Result<PageWalk<'a>> {
        self.pager().pages(since.map(Store::pager))
    }
}

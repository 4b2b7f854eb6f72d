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
    /// Run `f`, and on a full disk make room and run it again, as a change does. The free pages of a store
    /// that was just opened are found only by a rebuild of the free map, and pages of old checkpoints may
    /// fill the disk.
    fn with_room<R>(&self, mut f: impl FnMut() -> Result<R>) -> Result<R> {
        match f() {
            Err(Error::NoSpace { .. }) if !self.in_transaction() && self.sync_forcing().is_ok() => f(),
            done => done,
        }
    }

    /// Keep the current state under a name. Makes a checkpoint and copies nothing. Later changes take new
    /// space until the snapshot is dropped.
    ///
    /// # Errors
    /// `Error::Invalid` for a name that is empty, longer than 255 bytes, `.`, `..`, or holds `/` or a control
    /// character, and inside a transaction; `Error::SnapshotExists`; `Error::TooMany` (`MAX_SNAPSHOTS`);
    /// `Error::ReadOnly`; those of `sync`.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot> {
        self.expect_live()?;
        self.pager().outside_sections()?;
        self.pager().not_behind_another_task()?;
        self.with_room(|| self.pager().take_snapshot(name))
    }

    /// Return the snapshots, oldest first. An open snapshot returns those of its store.
    ///
    /// # Errors
    /// `Error::Corrupt`, `Error::Io`.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.pager().outside_sections()?;
        self.pager().snapshots()
    }

    /// Delete a snapshot, and free what only it held. Later checkpoints free what cannot be freed at once.
    ///
    /// # Errors
    /// `Error::NoSnapshot`; `Error::InUse` while it is open in any process; those of `snapshot`.
    pub fn drop_snapshot(&self, name: &str) -> Result<()> {
        self.expect_live()?;
        self.pager().outside_sections()?;
        self.pager().not_behind_another_task()?;
        self.with_room(|| self.pager().drop_snapshot(name))
    }

    /// Open a snapshot of this store as a read-only store of its own (`Options::snapshot` does so from a
    /// path). The snapshot cannot be dropped while it is open.
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

    /// Return the snapshot that this handle has open.
    #[doc(hidden)]
    #[must_use]
    pub fn opened_snapshot(&self) -> Option<&Snapshot> {
        self.pager().snapshot()
    }

    /// Return true if this handle shows one state that never changes: a snapshot, the last checkpoint of a store that
    /// could only be read, or a moment (`Store::frozen`).
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.inner.view.is_some() || self.pager().is_frozen()
    }

    /// Return the number that was given to the store when it was created. Copies of the file have the same.
    #[must_use]
    pub fn uuid(&self) -> u128 {
        let [high, low] = self.pager().uuid();
        u128::from(high) << 64 | u128::from(low)
    }

    /// Return the logical pages of an open snapshot, each verified by its checksum. With `since`, another
    /// open snapshot of the same store, return only the pages that differ from it. For backups and checks.
    ///
    /// # Errors
    /// `Error::Invalid` if a store is not an open snapshot, or not of the same file.
    #[doc(hidden)]
    pub fn pages<'a>(&'a self, since: Option<&'a Store>) -> Result<PageWalk<'a>> {
        self.pager().pages(since.map(Store::pager))
    }
}

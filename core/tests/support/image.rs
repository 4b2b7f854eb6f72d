//! A store's files at every instruction of an operation in another process, and how to restore them.
//!
//! A kill leaves what the dead process had stored in the files, and nothing else: its registers, stack and locks are
//! gone. The result of a kill after instruction k is therefore the files' bytes after instruction k, whichever process
//! writes them there. Two instructions without a store between them leave the same. `record` runs a child through an
//! operation once, from store to store, and records the changes of each store. `Reel::restore` restores any of these
//! moments, into the same files (a sidecar is bound to its store's inode). At that time, only an idle observer, which
//! was there all the time, may have the store open. `kill_steps` also makes real kills of the same operation.
//!
//! Sidecars and redo logs are identified by inode and kept under a second name, so that those of a moment can be linked
//! to their place again.

use super::ptrace::{Event, Tracee};
use super::sys::forget_session;
use super::window::{Page, Window, data_pages};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest operation that is recorded, in stores.
const MOST: u64 = 1_000_000;
const STORE_PAGES: u64 = 1 << 16;
const SIDECAR_PAGES: u64 = 1 << 20;

/// 0 for the store, otherwise the inode of a sidecar or log.
type FileId = u64;
type Place = (FileId, u64);

/// The paths of one store.
#[derive(Clone, Debug)]
pub struct Paths {
    pub store: PathBuf,
    pub sidecar: PathBuf,
    pub log: PathBuf,
}

impl Paths {
    pub fn new(dir: &Path) -> Paths {
        Paths {
            store: dir.join("a.store"),
            sidecar: dir.join("a.store-shm"),
            log: dir.join("a.store-wal"),
        }
    }

    fn kept(&self, id: FileId) -> PathBuf {
        self.store.with_extension(format!("kept{id}"))
    }

    /// The paths of the files beside the store.
    fn others(&self) -> [&Path; 2] {
        [&self.sidecar, &self.log]
    }
}

fn id_at(path: &Path) -> Option<FileId> {
    std::fs::symlink_metadata(path).ok().map(|m| m.ino())
}

/// The state other than bytes of pages: the store's length, and which sidecar and log are in place, with their lengths.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Names {
    store: Option<u64>,
    others: [Option<(FileId, u64)>; 2],
}

/// One moment at which the files had changed.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Stores and system calls before it.
    pub step: u64,
    words: Vec<(Place, u16, u64)>,
    names: Option<Names>,
    /// A word of the sidecar changed: a step of a protocol, not only bytes of a page.
    pub protocol: bool,
}

/// The moments of one operation.
#[derive(Debug)]
pub struct Reel {
    paths: Paths,
    base: BTreeMap<Place, Box<Page>>,
    base_names: Names,
    pub moments: Vec<Moment>,
    /// Stores and system calls of the operation.
    pub steps: u64,
    at: Option<usize>,
    now: BTreeMap<Place, Box<Page>>,
    now_names: Names,
    windows: BTreeMap<FileId, Window>,
    /// No process has the store open while a moment is restored.
    alone: bool,
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).write(true).open(path).ok()
}

/// The observed files of a store, with their content at the last observation.
pub struct Watch {
    paths: Paths,
    windows: BTreeMap<FileId, Window>,
    shadow: BTreeMap<Place, Box<Page>>,
    names: Names,
}

impl Watch {
    pub fn new(paths: &Paths) -> Watch {
        let mut watch = Watch {
            paths: paths.clone(),
            windows: BTreeMap::new(),
            shadow: BTreeMap::new(),
            names: Names::default(),
        };
        watch.names = watch.look_at_names();
        watch.shadow = watch.everything();
        watch
    }

    fn look_at_names(&mut self) -> Names {
        if !self.windows.contains_key(&0)
            && let Some(file) = open(&self.paths.store)
        {
            let kept = self.paths.kept(0);
            let _ = std::fs::remove_file(&kept);
            std::fs::hard_link(&self.paths.store, &kept).expect("link");
            self.windows.insert(0, Window::new(file, STORE_PAGES));
        }
        let paths = self.paths.clone();
        let others = paths.others().map(|path| {
            let id = id_at(path)?;
            self.windows.entry(id).or_insert_with(|| {
                let kept = paths.kept(id);
                let _ = std::fs::remove_file(&kept);
                std::fs::hard_link(path, &kept).expect("link");
                Window::new(open(&kept).expect("open"), SIDECAR_PAGES)
            });
            Some(id)
        });
        let len = |id: FileId| self.windows.get(&id).map(Window::len);
        let store = self.paths.store.exists().then(|| len(0)).flatten();
        Names {
            store,
            others: others.map(|id| id.map(|id| (id, len(id).unwrap_or(0)))),
        }
    }

    pub fn id_of(&self, ino: u64) -> FileId {
        let store = self
            .windows
            .get(&0)
            .map(|w| w.file().metadata().expect("fstat").ino());
        if store == Some(ino) { 0 } else { ino }
    }

    fn everything(&self) -> BTreeMap<Place, Box<Page>> {
        let mut all = BTreeMap::new();
        for (id, window) in &self.windows {
            for range in data_pages(window.file()) {
                for page in range.filter(|p| p * 4096 < window.len()) {
                    all.insert((*id, page), Box::new(*window.page(page)));
                }
            }
        }
        all
    }

    /// The difference from the last observation, in names, lengths and pages with data.
    pub fn differs(&mut self) -> Option<String> {
        let names = self.look_at_names();
        if names != self.names {
            return Some(format!("{names:?}, was {:?}", self.names));
        }
        let known = self.shadow.keys().copied();
        let full = self.windows.iter().flat_map(|(id, window)| {
            let ranges = data_pages(window.file()).into_iter().flatten();
            ranges.map(|page| (*id, page)).collect::<Vec<_>>()
        });
        full.chain(known).find_map(|place| self.differs_at(place))
    }

    /// The difference of a page from the last observation.
    pub fn differs_at(&self, place: Place) -> Option<String> {
        let window = self.windows.get(&place.0)?;
        if place.1 * 4096 >= window.len() {
            return None;
        }
        let was: &Page = self.shadow.get(&place).map_or(&[0; 512], |page| page);
        let is = window.page(place.1);
        let word = (0..512).find(|i| is[*i] != was[*i])?;
        Some(format!(
            "file {}, page {}, word {word}: {:#x}, was {:#x}",
            place.0, place.1, is[word], was[word]
        ))
    }

    /// Accept the current content of a page.
    pub fn accept_at(&mut self, place: Place) {
        if let Some(window) = self.windows.get(&place.0)
            && place.1 * 4096 < window.len()
        {
            self.shadow.insert(place, Box::new(*window.page(place.1)));
        }
    }

    /// Accept the current content of everything.
    pub fn accept(&mut self) {
        self.names = self.look_at_names();
        self.shadow = self.everything();
    }

    /// Record in `moment` the changes of a page.
    fn look(&mut self, place: Place, moment: &mut Moment) {
        let Some(window) = self.windows.get(&place.0) else {
            return;
        };
        if place.1 * 4096 >= window.len() {
            return;
        }
        let shadow = self.shadow.entry(place).or_insert_with(|| Box::new([0; 512]));
        let page = window.page(place.1);
        if page == &**shadow {
            return;
        }
        for (i, (new, old)) in page.iter().zip(shadow.iter_mut()).enumerate() {
            if new != old {
                *old = *new;
                moment.words.push((place, i as u16, *new));
            }
        }
        moment.protocol |= place.0 != 0;
    }
}

/// Run a process (`alone`: no other process has the store open) from store to store until it stops itself, and kill it.
pub fn record(paths: &Paths, alone: bool, mut child: Tracee) -> Reel {
    let mut watch = Watch::new(paths);
    let (base, base_names) = (watch.shadow.clone(), watch.names);
    let mut moments = Vec::new();
    let mut steps = 0;
    loop {
        let event = child.next();
        steps += 1;
        assert!(steps < MOST, "the operation does not end");
        let mut moment = Moment {
            step: steps,
            words: Vec::new(),
            names: None,
            protocol: false,
        };
        let names = watch.look_at_names();
        if names != watch.names {
            watch.names = names;
            moment.names = Some(names);
            moment.protocol = true;
        }
        match event {
            Event::Stored { ino, page } => {
                let id = watch.id_of(ino);
                watch.look((id, page), &mut moment);
                watch.look((id, page + 1), &mut moment);
            }
            Event::Called | Event::Marked => {
                for place in watch.everything().into_keys() {
                    watch.look(place, &mut moment);
                }
            }
            Event::Forked | Event::Passed | Event::Storing { .. } => {}
            Event::Ended(stop) => panic!("the child under trace: {stop:?}"),
        }
        if !moment.words.is_empty() || moment.names.is_some() {
            moments.push(moment);
        }
        if event == Event::Marked {
            break;
        }
    }
    child.kill();
    Reel {
        paths: paths.clone(),
        now: base.clone(),
        now_names: base_names,
        base,
        base_names,
        moments,
        steps,
        at: None,
        windows: watch.windows,
        alone,
    }
}

/// The files at one moment, for restoring.
#[derive(Debug)]
pub struct Base(Reel);

impl Base {
    /// Copy the files. Only an observer may have the store open.
    pub fn take(paths: &Paths, alone: bool) -> Base {
        let watch = Watch::new(paths);
        Base(Reel {
            paths: paths.clone(),
            now: watch.shadow.clone(),
            now_names: watch.names,
            base: watch.shadow,
            base_names: watch.names,
            moments: Vec::new(),
            steps: 0,
            at: None,
            windows: watch.windows,
            alone,
        })
    }

    /// Restore the files.
    pub fn restore(&mut self) {
        self.0.write_back();
    }
}

impl Reel {
    /// The moments at which the sidecar or a name changed.
    pub fn telling(&self) -> Vec<usize> {
        let all = 0..self.moments.len();
        all.filter(|m| self.moments[*m].protocol).collect()
    }

    /// Restore the state after a kill at this moment.
    pub fn restore(&mut self, moment: usize) {
        if self.at.is_none_or(|at| at > moment) {
            self.now = self.base.clone();
            self.now_names = self.base_names;
            self.at = None;
        }
        for m in self.at.map_or(0, |at| at + 1)..=moment {
            for (place, word, value) in &self.moments[m].words {
                self.now.entry(*place).or_insert_with(|| Box::new([0; 512]))[*word as usize] = *value;
            }
            self.now_names = self.moments[m].names.unwrap_or(self.now_names);
        }
        self.at = Some(moment);
        self.write_back();
    }

    fn write_back(&mut self) {
        let link = |id: FileId, to: &Path, there: bool| {
            if there {
                std::fs::hard_link(self.paths.kept(id), to).expect("link");
            } else {
                let _ = std::fs::remove_file(to);
            }
        };
        if self.paths.store.exists() != self.now_names.store.is_some() {
            link(0, &self.paths.store, self.now_names.store.is_some());
        }
        for (path, want) in self.paths.others().into_iter().zip(self.now_names.others) {
            let want = want.map(|w| w.0);
            if id_at(path) != want {
                link(0, path, false);
                if let Some(id) = want {
                    link(id, path, true);
                }
            }
        }
        if self.now_names.store.is_some() {
            // The attribute may name the sidecar of another moment.
            forget_session(&self.paths.store);
        }
        let lengths = self
            .now_names
            .store
            .map(|len| (0, len))
            .into_iter()
            .chain(self.now_names.others.into_iter().flatten());
        for (id, len) in lengths {
            let window = &self.windows[&id];
            // A file that an observer has mapped is not shortened; the part beyond is not read then.
            if window.len() < len || (window.len() > len && self.alone) {
                window.file().set_len(len).expect("set_len");
            }
        }
        let empty: Box<Page> = Box::new([0; 512]);
        let others = self.now_names.others.into_iter().flatten().map(|o| o.0);
        let ids = self.now_names.store.map(|_| 0).into_iter().chain(others);
        for id in ids {
            let window = &self.windows[&id];
            let len = window.len();
            let mut pages: BTreeSet<u64> = self
                .now
                .range((id, 0)..=(id, u64::MAX))
                .map(|(k, _)| k.1)
                .collect();
            for range in data_pages(window.file()) {
                pages.extend(range);
            }
            for page in pages.into_iter().filter(|p| p * 4096 < len) {
                let wanted = self.now.get(&(id, page)).unwrap_or(&empty);
                if window.page(page) != &**wanted {
                    window.write(page, wanted);
                }
            }
        }
    }
}

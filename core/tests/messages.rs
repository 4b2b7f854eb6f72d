//! What error messages say: what is wrong, in which store, and what to do about it.

use persist_core::Error;
use persist_core::store::door::set_task;
use persist_core::store::{Actor, In, Key, LockMode, LockTarget, Options, Store, Wait};
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

const X: Key<'_> = Key::Str(b"x");

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// Errors of a whole store name it: a program may have several open, and a log has messages of several.
#[test]
fn errors_of_a_store_name_it_once() {
    let path = Path::new("/srv/a.store");
    let unknown = |source| Error::DurabilityUnknown {
        source: Box::new(source),
    };
    let cases = [
        (Error::ReadOnly, "open it for writing"),
        (Error::Closed, "open it again"),
        (
            Error::Corrupt {
                what: "a list",
                at: 8,
            },
            "restore a backup",
        ),
        (Error::Poisoned { why: "EIO".into() }, "reopen it"),
        (
            Error::NoSpace {
                what: "the store file",
                source: eio(),
            },
            "try again",
        ),
        (
            Error::Io {
                what: "fstat".into(),
                source: eio(),
            },
            "fstat",
        ),
        (
            Error::Io {
                what: "cannot open /srv/a.store-wal".into(),
                source: eio(),
            },
            "cannot open",
        ),
        (
            Error::NotAStore {
                path: path.into(),
                why: "a text".into(),
            },
            "not a persist store",
        ),
        (
            Error::Refused {
                path: path.into(),
                why: "close it first".into(),
            },
            "close it first",
        ),
        (
            Error::TransactionTooLarge { what: "undo log" },
            "split the transaction",
        ),
        (
            unknown(Error::Io {
                what: "fdatasync".into(),
                source: eio(),
            }),
            "do not repeat it",
        ),
        (Error::NoSnapshot { name: "s".into() }, "persist snapshots"),
        (Error::SnapshotExists { name: "s".into() }, "drop it first"),
    ];
    for (error, todo) in cases {
        let message = error.in_store(path);
        assert_eq!(message.matches("/srv/a.store").count(), 1, "{message}");
        assert!(message.contains(todo), "{message}");
    }
    // A path that the caller has given as a relative one is not added to its absolute form.
    let error = Error::Io {
        what: format!(
            "cannot open {}",
            std::path::absolute("a.store").unwrap().display()
        ),
        source: eio(),
    };
    assert_eq!(error.in_store(Path::new("./a.store")), error.to_string());
    assert_eq!(error.text(Path::new("./a.store")), "Input/output error");
    // Errors of a key or a lock name that, as the caller wrote it.
    assert_eq!(Error::NoKey.in_store(path), "no such key");
}

/// Text for callers that show the errno and the file themselves.
#[test]
fn a_text_has_neither_the_errno_nor_the_path_twice() {
    let path = Path::new("/srv/a.store");
    let io = |what: &str| Error::Io {
        what: what.into(),
        source: eio(),
    };
    assert_eq!(io("cannot open /srv/a.store").text(path), "Input/output error");
    assert_eq!(io("fdatasync").text(path), "fdatasync: Input/output error");
    let unknown = Error::DurabilityUnknown {
        source: Box::new(io("fdatasync")),
    };
    assert_eq!(unknown.errno(), libc::EIO);
    let text = unknown.text(path);
    assert!(
        text.contains("fdatasync: Input/output error; do not repeat it"),
        "{text}"
    );
    assert!(!text.contains("os error"), "{text}");
    // The errno of such an error is another one: the message has no number all the same.
    let source = io::Error::from_raw_os_error(libc::EINTR);
    let source = Box::new(Error::Io {
        what: "fdatasync".into(),
        source,
    });
    let unknown = Error::DurabilityUnknown { source };
    assert_eq!(unknown.errno(), libc::ETIMEDOUT);
    assert!(!unknown.text(path).contains("os error"), "{}", unknown.text(path));
}

#[test]
fn a_timeout_says_for_how_long_for_what_and_because_of_what() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let set = |wait: &mut Wait<'_>, value| {
        store.write(Actor::Thread, wait, |w| w.set(store.root(), &X, &In::Int(value)))
    };
    set(&mut Wait::default(), 1).unwrap();
    let target = LockTarget {
        obj: store.root(),
        key: Some(X),
    };
    let holder = Actor::Flock(1, std::process::id());
    let mode = Some(LockMode::Exclusive);
    store
        .set_lock(holder, target, mode, &mut Wait::default())
        .unwrap();
    let mut wait = Wait::at_most(Duration::from_millis(60));
    let failed = set(&mut wait, 2).unwrap_err().to_string();
    let holder = format!(
        "locked exclusively through the mount (flock, pid {}, ",
        std::process::id()
    );
    assert!(failed.starts_with("timed out after 0."), "{failed}");
    assert!(failed.contains(" s waiting for root['x']: "), "{failed}");
    assert!(failed.contains(&holder), "{failed}");
    store.close().unwrap();
}

/// The holder of a lock or of an open transaction is named with its thread, as the kernel knows it.
#[test]
fn the_thread_of_a_holder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &Options::default()).unwrap();
    let target = LockTarget {
        obj: store.root(),
        key: Some(X),
    };
    let me = std::process::id();
    let (held, is_held) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    let wait = || Wait::at_most(Duration::from_millis(30));
    let lock = |wait: &mut Wait<'_>| store.lock(Actor::Thread, target, LockMode::Exclusive, wait);
    let set = |wait: &mut Wait<'_>| {
        store.write(Actor::Thread, wait, |w| {
            w.set(store.root(), &Key::Str(b"y"), &In::Int(1))
        })
    };
    thread::scope(|scope| {
        let (store, lock) = (&store, &lock);
        let keep = move || {
            let id = fs::read_link("/proc/thread-self").unwrap();
            let id = id.file_name().unwrap().to_str().unwrap().to_owned();
            lock(&mut Wait::default()).unwrap();
            held.send(id.clone()).unwrap();
            ends.recv().unwrap();
            let block = store.begin(&mut Wait::default()).unwrap();
            held.send(id).unwrap();
            ends.recv().unwrap();
            store.end(block, false).unwrap();
        };
        thread::Builder::new()
            .name("keeper".into())
            .spawn_scoped(scope, keep)
            .unwrap();
        let id = is_held.recv().unwrap();
        let late = lock(&mut wait()).unwrap_err().to_string();
        let by = format!("locked exclusively by a thread of process {me} (");
        assert!(late.contains(&by), "{late}");
        assert!(late.ends_with(&format!("), thread {id} \"keeper\"")), "{late}");
        let owners: Vec<_> = store
            .locks()
            .unwrap()
            .into_iter()
            .map(|lock| lock.owner)
            .collect();
        assert!(
            owners[0].ends_with(&format!("thread {id} \"keeper\"")),
            "{owners:?}"
        );
        end.send(()).unwrap();
        is_held.recv().unwrap();
        let late = set(&mut wait()).unwrap_err().to_string();
        let by = format!("held by process {me} (");
        assert!(late.contains(&by), "{late}");
        assert!(late.ends_with(&format!("), thread {id} \"keeper\"")), "{late}");
        end.send(()).unwrap();
    });
    store.close().unwrap();
}

/// The task of a holder is named by the name that it gave, for a lock and for a transaction, and in the list of locks.
#[test]
fn the_task_of_a_holder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let target = LockTarget {
        obj: store.root(),
        key: None,
    };
    let wait = || Wait::at_most(Duration::from_millis(30));
    let lock = || store.lock(Actor::Thread, target, LockMode::Exclusive, &mut wait());
    let late = || {
        let in_thread = |f: &(dyn Fn() -> Error + Sync)| thread::scope(|s| s.spawn(f).join().unwrap());
        in_thread(&|| lock().unwrap_err()).to_string()
    };
    assert!(!store.lacks_task_name(), "the thread itself has no such name");
    set_task(7);
    assert!(store.lacks_task_name());
    lock().unwrap();
    assert!(
        late().contains(": locked exclusively by a task of process "),
        "{}",
        late()
    );
    store.name_task("fetch \u{7}\"x\"");
    assert!(!store.lacks_task_name());
    let by = format!(
        ": locked exclusively by task \"fetch \\u{{7}}\\\"x\\\"\" of process {} (",
        std::process::id()
    );
    assert!(late().contains(&by), "{}", late());
    let owner = &store.locks().unwrap()[0].owner;
    assert!(owner.starts_with("task \"fetch "), "{owner}");
    store.unlock(Actor::Thread, target).unwrap();
    // A task that has no name says so, and is not asked again.
    set_task(8);
    store.name_task("");
    assert!(!store.lacks_task_name());
    lock().unwrap();
    assert!(
        late().contains(": locked exclusively by a task of process "),
        "{}",
        late()
    );
    store.unlock(Actor::Thread, target).unwrap();
    // A transaction is named by its task as long as it is open.
    set_task(7);
    let block = store.begin(&mut Wait::default()).unwrap();
    assert!(late().contains(": held by task \"fetch "), "{}", late());
    store.end(block, false).unwrap();
    set_task(0);
    let block = store.begin(&mut Wait::default()).unwrap();
    assert!(late().contains(": held by process "), "{}", late());
    store.end(block, false).unwrap();
    store.close().unwrap();
}

//! Backups and restores that are refused: the error states the reason, and no file is created.

use super::common::scratch;
use super::{chain, get, open, options, put_back, sound};
use persist_core::Error;
use persist_core::backup::{Input, Options, Restoring, backup_to, restore};
use persist_core::store::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[test]
fn a_wrong_chain_is_refused_and_nothing_is_made() {
    let dir = scratch();
    let (path, files) = chain(dir.path(), 4);
    let other = scratch();
    let (_, others) = chain(other.path(), 2);
    let to = dir.path().join("restored");
    let cases: [(&[&PathBuf], &str); 8] = [
        (&[&files[1]], "name the full one first"),
        (&[&files[0], &files[2]], "one that comes between is missing"),
        (&[&files[0], &files[1], &files[1]], "it comes earlier"),
        (
            &[&files[0], &files[2], &files[1]],
            "one that comes between is missing",
        ),
        (&[&files[0], &others[1]], "another store"),
        (&[&files[0], &files[0]], "not an incremental backup"),
        (&[&dir.path().join("nothing")], "cannot open"),
        (&[], "no backup"),
    ];
    for (backups, why) in cases {
        let backups: Vec<PathBuf> = backups.iter().map(|p| (*p).clone()).collect();
        let e = put_back(&backups, &to).unwrap_err();
        assert!(e.to_string().contains(why), "{backups:?}: {e}");
        if let Error::BadBackup { path, .. } = &e {
            assert!(backups.contains(path), "{e}");
        }
        assert!(!to.exists());
    }
    // Truncated at any place; extra bytes after the end.
    for (i, file) in files[..2].iter().enumerate() {
        let whole = std::fs::read(file).unwrap();
        let cut = dir.path().join("cut");
        for len in [0, 7, 8, 100, 4096, 8191, 8192, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&cut, &whole[..len]).unwrap();
            let mut backups = files[..i].to_vec();
            backups.push(cut.clone());
            let e = put_back(&backups, &to).unwrap_err();
            assert!(
                matches!(&e, Error::BadBackup { path, .. } if *path == cut),
                "{len}: {e}"
            );
            assert!(!to.exists());
        }
        let longer = [whole.as_slice(), &[0]].concat();
        let mut inputs: Vec<Input<'_>> = files[..i].iter().map(Input::file).collect();
        inputs.push(Input::stream("the stream", longer.as_slice()));
        let e = restore(inputs, &to, &Restoring::default(), &mut ()).unwrap_err();
        assert!(
            e.to_string().contains("the stream: something follows its end"),
            "{e}"
        );
    }
    // An existing file stays, unless it is to be replaced and no process has it open.
    std::fs::write(&to, "mine").unwrap();
    let e = put_back(&files, &to).unwrap_err();
    assert!(
        matches!(e, Error::Refused { .. }) && e.to_string().contains("--force"),
        "{e}"
    );
    let e = backup_to(&path, &to, &Options::default(), &mut ()).unwrap_err();
    assert!(
        matches!(e, Error::Refused { .. }) && e.to_string().contains("--force"),
        "{e}"
    );
    assert_eq!(std::fs::read(&to).unwrap(), b"mine");
    let mut force = Restoring::default();
    force.force = true;
    let inputs = || files.iter().map(Input::file).collect();
    restore(inputs(), &to, &force, &mut ()).unwrap();
    let store = open(&to);
    assert_eq!(get(&store, "n"), Some(Value::Int(3)));
    let e = restore(inputs(), &to, &force, &mut ()).unwrap_err();
    assert!(e.to_string().contains("in use"), "{e}");
    // This also holds for a full backup that is open.
    let e = put_back(std::slice::from_ref(&to), &dir.path().join("again")).unwrap_err();
    assert!(e.to_string().contains("in use"), "{e}");
    store.close().unwrap();
    let mut options = Options::default();
    options.force = true;
    let e = backup_to(&path, &path, &options, &mut ()).unwrap_err();
    assert!(matches!(e, Error::Invalid { .. }), "{e}");
    backup_to(&path, &to, &options, &mut ()).unwrap();
    sound(&to, "replaced");
    let here: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with('.'))
        .collect();
    assert!(here.is_empty(), "{here:?}");
}

#[test]
fn what_cannot_be_backed_up_says_why() {
    let dir = scratch();
    let (path, _) = chain(dir.path(), 1);
    let to = dir.path().join("to");
    let refused = |options: &Options| {
        let e = backup_to(&path, &to, options, &mut ()).unwrap_err();
        assert!(!to.exists());
        e.to_string()
    };
    assert!(refused(&options(Some("no"), None)).contains("there is no snapshot \"no\""));
    assert!(refused(&options(None, Some("s0"))).contains("there is a snapshot \"s0\" already"));
    assert!(refused(&options(None, Some(".backup-1"))).contains("backups under way"));
    assert!(refused(&options(None, Some("a/b"))).contains("cannot be a snapshot's name"));
    let mut both = options(None, Some("t"));
    both.at = Some("s0".to_owned());
    assert!(refused(&both).contains("has a name already"));
    // The backup is interrupted.
    let mut stop = options(None, Some("kept"));
    stop.stop = Some(Arc::new(AtomicBool::new(true)));
    assert!(refused(&stop).contains("interrupted"));
    let store = open(&path);
    // Nothing of the unfinished backup is kept.
    let names: Vec<String> = store.snapshots().unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["s0"]);
    // A younger snapshot cannot be the base of an older one.
    store.snapshot("s1").unwrap();
    let mut backward = options(Some("s1"), None);
    backward.at = Some("s0".to_owned());
    assert!(refused(&backward).contains("younger"));
    for (name, content) in [("empty", &b""[..]), ("text", b"this is not a store")] {
        let file = dir.path().join(name);
        std::fs::write(&file, content).unwrap();
        let e = backup_to(&file, &to, &Options::default(), &mut ()).unwrap_err();
        assert!(matches!(e, Error::NotAStore { .. }), "{e}");
        assert_eq!(std::fs::read(&file).unwrap(), content);
    }
}

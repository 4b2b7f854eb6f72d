//! The ownership of a sidecar, and whether it may be read.

use super::{LEFT, found, get, left_by_the_dead, look, open, run};
use crate::common::scratch;
use crate::support::plain::{self, set, sidecar};
use persist_core::store::Error;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Assert that opening fails, that the error contains these words, and that nothing has changed.
fn fails(path: &Path, words: &[&str], how: impl FnOnce() -> String) {
    let before = (
        std::fs::symlink_metadata(sidecar(path)).unwrap(),
        std::fs::read(path).unwrap(),
    );
    let error = how();
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
    let after = std::fs::symlink_metadata(sidecar(path)).unwrap();
    assert_eq!(
        (before.0.ino(), before.0.len()),
        (after.ino(), after.len()),
        "{error}"
    );
    assert!(before.1 == std::fs::read(path).unwrap(), "{error}");
}

fn error_of(path: &Path) -> String {
    match plain::try_open(path, 5) {
        Ok(_) => "opened".to_owned(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn a_sidecar_that_cannot_be_opened_is_not_removed() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    // With each limit of descriptors in turn.
    let mut refusals = 0;
    for more in 1..20 {
        let error = run(&path, "few files", &[("PERSIST_FILES", &more.to_string())]);
        if error.is_empty() {
            break;
        }
        assert!(error.contains("Too many open files"), "{error}");
        refusals += 1;
        fails(&path, &["os error 24"], || {
            run(&path, "few files", &[("PERSIST_FILES", &more.to_string())])
        });
    }
    assert!((3..19).contains(&refusals), "{refusals}");
    assert_eq!(look(&path), LEFT);
}

#[test]
fn a_sidecar_of_another_user_is_not_removed() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let open_to_all = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open_to_all(dir.path(), 0o777);
    open_to_all(&path, 0o666);
    let lock = dir.path().join("a.store-lock");
    open_to_all(&lock, 0o600);
    open_to_all(&sidecar(&path), 0o600);
    if std::fs::metadata(&path).unwrap().uid() == 0 {
        fails(&path, &["a.store-lock", "permission", "as the user"], || {
            run(&path, "unprivileged", &[])
        });
        open_to_all(&lock, 0o666);
        fails(&path, &["a.store-shm", "permission", "as the user"], || {
            run(&path, "unprivileged", &[])
        });
    }
    assert_eq!(look(&path), LEFT);
}

#[test]
fn a_file_that_is_not_a_sidecar_is_not_removed() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let (side, aside) = (sidecar(&path), dir.path().join("aside"));
    std::fs::rename(&side, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &side).unwrap();
    fails(&path, &["a.store-shm", "regular file"], || error_of(&path));
    std::fs::remove_file(&side).unwrap();
    std::fs::create_dir(&side).unwrap();
    fails(&path, &["a.store-shm", "regular file"], || error_of(&path));
    std::fs::remove_dir(&side).unwrap();
    for bytes in [&b""[..], b"x", &[7; 20_000]] {
        std::fs::write(&side, bytes).unwrap();
        fails(&path, &["a.store-shm", "remove it to open checkpoint"], || {
            error_of(&path)
        });
    }
    std::fs::rename(&aside, &side).unwrap();
    assert_eq!(look(&path), LEFT);
}

/// After a restart, or when the disk was detached, sidecars may be torn in any way: the last checkpoint opens.
#[test]
fn a_sidecar_of_another_attachment_is_not_used_whatever_is_in_it() {
    let seq = |n: &'static str| ("PERSIST_DISKSEQ", n);
    for (session, expected) in [
        (&[seq("7")][..], Some(LEFT)),
        (&[seq("8")], None),
        (&[seq("7"), ("PERSIST_BOOT", "9")], None),
    ] {
        for torn in [None, Some(0), Some(100), Some(20_000)] {
            let dir = scratch();
            let path = dir.path().join("a.store");
            let say = |task: &str, vars: &[(&str, &str)]| run(&path, task, vars);
            open(&path).close().unwrap();
            std::fs::remove_file(sidecar(&path)).unwrap();
            say("die", &[seq("7")]);
            if let Some(len) = torn {
                let whole = std::fs::read(sidecar(&path)).unwrap();
                let bytes = if len == 100 {
                    vec![0; whole.len()]
                } else {
                    whole[..len].to_vec()
                };
                std::fs::write(sidecar(&path), bytes).unwrap();
            }
            let count = say("count", session);
            match (expected, torn) {
                (Some(n), None) => assert_eq!(count, n.to_string()),
                (Some(_), Some(_)) => assert!(count.contains("a.store-shm"), "{torn:?}: {count}"),
                (None, _) => assert_eq!(count, "0", "{torn:?}"),
            }
        }
    }
}

/// Where `/proc` is masked, as in a container, the boot is not known: an error, and what was left stays.
#[test]
fn an_unknown_boot_is_an_error() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let boot_id = "/proc/sys/kernel/random/boot_id";
    for (mask, words) in [
        (r#"mount --bind "$1" "$2""#, [boot_id, "make /proc readable"]),
        // Without any of it, the store's file cannot be opened a second time, which comes first.
        (
            "mount -t tmpfs none /proc",
            ["cannot open the store file", "a.store"],
        ),
    ] {
        let begun = format!("{mask} && echo begun && exec \"$3\" --exact worker --ignored --nocapture");
        let open_masked = || {
            let output = std::process::Command::new("unshare")
                .args(["-m", "sh", "-c", &begun, "sh"])
                .args([&empty, Path::new(boot_id), &std::env::current_exe().unwrap()])
                .env("PERSIST_STORE", &path)
                .env("PERSIST_DO", "count")
                .output()
                .unwrap_or_else(|e| panic!("there is no unshare: {e}"));
            let may = std::env::var_os("PERSIST_NO_MOUNT").is_some_and(|v| v == "1");
            let has_begun = output.stdout.starts_with(b"begun");
            assert!(
                has_begun || may,
                "run as root, or set PERSIST_NO_MOUNT=1 to leave this out: {output:?}"
            );
            has_begun.then(|| String::from_utf8_lossy(&output.stderr).into_owned())
        };
        if open_masked().is_some() {
            fails(&path, &words, || open_masked().unwrap());
        }
    }
    assert_eq!(look(&path), LEFT);
}

/// A process that cannot determine the attachment does not guess.
#[test]
fn an_unknown_attachment_is_an_error() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let known = [("PERSIST_DISKSEQ", "7")];
    let unknown = [("PERSIST_DISKSEQ", "0")];
    open(&path).close().unwrap();
    std::fs::remove_file(sidecar(&path)).unwrap();
    run(&path, "die", &known);
    fails(&path, &["diskseq", "a.store-shm"], || {
        run(&path, "count", &unknown)
    });
    assert_eq!(run(&path, "count", &known), LEFT.to_string());
    // Nor does one that can determine it trust what such a process has left. A clean close leaves nothing to doubt.
    std::fs::remove_file(sidecar(&path)).unwrap();
    run(&path, "die", &unknown);
    fails(&path, &["diskseq", "a.store-shm"], || run(&path, "count", &known));
    assert_eq!(run(&path, "count", &unknown), LEFT.to_string());
    assert_eq!(run(&path, "count", &known), LEFT.to_string());
}

/// A store has the name of another one, whose processes were killed: the other's changes are found.
#[test]
fn the_sidecar_of_another_file_is_kept_for_it() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let moved = dir.path().join("moved.store");
    std::fs::rename(&path, &moved).unwrap();
    let other = open(&path);
    set(&other, "n", 1).unwrap();
    other.close().unwrap();
    drop(other);
    let error = error_of(&moved);
    assert!(
        error.contains("a.store-shm.") && error.contains("rename"),
        "{error}"
    );
    let kept = error
        .split_whitespace()
        .find(|w| w.contains("a.store-shm."))
        .unwrap();
    std::fs::rename(kept.trim_end_matches(';'), sidecar(&moved)).unwrap();
    let store = open(&moved);
    assert_eq!(found(&store), LEFT);
    store.close().unwrap();
    assert_eq!(get(&open(&path), "n"), Some(1));
}

/// Meta pages of another format version, in each place and each of the two ages.
#[test]
fn a_store_of_another_version_is_refused_by_name() {
    const VERSION: u32 = 5;
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    for n in 0..3 {
        set(&store, "n", n).unwrap();
        store.sync().unwrap();
    }
    store.close().unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    for page in 0..2u64 {
        for version in [0, 1, 2, 3, 6, 200] {
            for right_sum in [true, false] {
                let mut bytes = whole[page as usize * 4096..][..4096].to_vec();
                bytes[8..12].copy_from_slice(&u32::to_le_bytes(version));
                if right_sum {
                    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..4088]);
                    bytes[4088..].copy_from_slice(&sum.to_le_bytes());
                }
                std::fs::write(&path, &whole).unwrap();
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(&bytes, page * 4096).unwrap();
                let _ = std::fs::remove_file(sidecar(&path));
                let checked = persist_core::check::check(&path, &mut ());
                let opened = plain::try_open(&path, 5);
                if version > VERSION || right_sum {
                    for error in [opened.map(drop).unwrap_err(), checked.map(drop).unwrap_err()] {
                        let text = error.to_string();
                        assert!(matches!(error, Error::Refused { .. }), "{text}");
                        for number in [version, VERSION] {
                            assert!(text.contains(&format!("version {number}")), "{text}");
                        }
                    }
                } else {
                    // With one damaged page, the other one is used.
                    opened.unwrap().close().unwrap();
                }
            }
        }
    }
}

//! One store from several namespaces: of mounts, of processes, of clocks.

use super::common::scratch;
use super::support::plain::set;
use super::{FOREVER, SHORT, get, open};
use persist_core::store::{Actor, Error, LockMode, LockTarget, Store, Wait};
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Instant;

/// The flags of `unshare` for each kind, and whether the neighbour has another clock.
fn kinds() -> Vec<(&'static str, Vec<String>)> {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let clocks = |by: i64| {
        let by = by.to_string();
        ["-T", "-f", "--kill-child", "--monotonic", &by, "--boottime", &by]
            .map(str::to_owned)
            .to_vec()
    };
    vec![
        ("mounts", vec!["-m".to_owned()]),
        (
            "processes",
            ["-p", "-f", "--kill-child", "--mount-proc"]
                .map(str::to_owned)
                .to_vec(),
        ),
        ("a clock far ahead", clocks(400_000_000)),
        ("a clock behind", clocks(-(seconds as i64) / 2)),
    ]
}

/// A neighbour process in its own namespaces, which sees the store's directory at another place.
struct Neighbour {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Neighbour {
    /// None if it is not allowed here.
    fn new(flags: &[String], dir: &Path, task: &str) -> Option<Neighbour> {
        let itself = std::env::current_exe().unwrap();
        let mut flags = flags.to_vec();
        if !flags.contains(&"-m".to_owned()) {
            flags.push("-m".to_owned());
        }
        let mut child = Command::new("unshare")
            .args(&flags)
            .args(["sh", "-c"])
            .arg("mount --bind \"$1\" \"$2\" && echo begun >&2 && exec \"$3\" --exact neighbour --ignored --nocapture")
            .arg("sh")
            .args([&dir.join("here"), &dir.join("there"), &itself])
            .env("PERSIST_STORE", dir.join("there/a.store"))
            .env("PERSIST_DO", task)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("there is no unshare: {e}"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        match lines.next() {
            Some(Ok(line)) if line == "begun" => Some(Neighbour { child, lines }),
            why => {
                let _ = child.wait();
                let may = std::env::var_os("PERSIST_NO_MOUNT").is_some_and(|v| v == "1");
                assert!(
                    may,
                    "run as root, or set PERSIST_NO_MOUNT=1 to leave this out: {why:?}"
                );
                println!("not tried: a store in namespaces of its own ({flags:?}): {why:?}");
                None
            }
        }
    }

    fn says(&mut self, begin: &str) -> String {
        let mut all = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if line.starts_with(begin) {
                return line;
            }
            all.push(line);
        }
        panic!("it never said {begin:?}: {all:?}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn begin(dir: &Path) -> Store {
    for name in ["here", "there"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    open(&dir.join("here/a.store"))
}

/// The same file by another path, seen with other process numbers and by another clock.
#[test]
fn namespaces_share_a_store() {
    for (kind, flags) in kinds() {
        let dir = scratch();
        let store = begin(dir.path());
        let Some(mut neighbour) = Neighbour::new(&flags, dir.path(), "increment") else {
            return;
        };
        let mut own = 0;
        while neighbour.child.try_wait().unwrap().is_none() {
            store.begin(&mut Wait::default()).unwrap();
            let n = get(&store, "n").unwrap_or(0);
            set(&store, "n", n + 1).unwrap();
            store.commit().unwrap();
            own += 1;
        }
        assert!(neighbour.child.wait().unwrap().success(), "{kind}");
        assert_eq!(get(&store, "neighbour"), Some(1), "{kind}");
        assert_eq!(get(&store, "n"), Some(own + 1000), "{kind}");
        store.close().unwrap();
    }
}

/// A living holder does not seem dead, and no wait ends at once, or never.
#[test]
fn waits_across_namespaces_last_as_long_as_they_should() {
    for (kind, flags) in kinds() {
        let dir = scratch();
        let store = begin(dir.path());
        // The neighbour holds the lock; this process waits.
        let Some(mut holder) = Neighbour::new(&flags, dir.path(), "transaction") else {
            return;
        };
        holder.says("ready");
        let begun = Instant::now();
        match store.begin(&mut Wait::at_most(SHORT)) {
            Err(Error::Timeout { holder, .. }) => {
                // A number that means another process here, or none, is reported as such.
                assert!(holder.contains("process "), "{kind}: {holder}");
                assert_eq!(
                    holder.contains("another pid namespace"),
                    kind == "processes",
                    "{holder}"
                );
            }
            done => panic!("{kind}: {done:?}"),
        }
        let waited = begun.elapsed();
        assert!((SHORT..FOREVER).contains(&waited), "{kind}: {waited:?}");
        holder.kill();
        let begun = Instant::now();
        set(&store, "after", 1).unwrap();
        assert!(begun.elapsed() < FOREVER, "{kind}: {:?}", begun.elapsed());
        assert_eq!(
            (get(&store, "neighbour"), get(&store, "after")),
            (Some(1), Some(1)),
            "{kind}"
        );
        // This process holds the lock and the neighbour waits; then the neighbour gets it, and this process waits.
        let root = || LockTarget {
            obj: store.root(),
            key: None,
        };
        let mut waiter = Neighbour::new(&flags, dir.path(), "wait").unwrap();
        waiter.says("opened");
        store.begin(&mut Wait::default()).unwrap();
        std::fs::write(dir.path().join("here/begun"), "").unwrap();
        let said = waiter.says("timeout");
        assert_eq!(
            said.contains("another pid namespace"),
            kind == "processes",
            "{said}"
        );
        store.commit().unwrap();
        waiter.says("locked");
        let lock = |at_most| {
            store.lock(
                Actor::Thread,
                root(),
                LockMode::Exclusive,
                &mut Wait::at_most(at_most),
            )
        };
        let begun = Instant::now();
        let refused = lock(SHORT);
        assert!(
            matches!(refused, Err(Error::Timeout { .. })),
            "{kind}: {refused:?}"
        );
        let waited = begun.elapsed();
        assert!((SHORT..FOREVER).contains(&waited), "{kind}: {waited:?}");
        waiter.kill();
        lock(FOREVER).unwrap_or_else(|e| panic!("{kind}: {e}"));
        store.check().unwrap();
        store.close().unwrap();
    }
}

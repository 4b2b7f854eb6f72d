//! A list nested a million deep is checked, salvaged, deleted and collected on a stack of ordinary size: no function
//! recurses by the depth of a store's content.

mod shapes;

use persist_core::check::{check, salvage};
use persist_core::store::{Key, Kind, Options, Store, Value, Wait};
use std::path::Path;

const DEPTH: u64 = 1_000_000;
/// Less than one frame for each level would take.
const STACK: usize = 512 * 1024;

fn on_a_small_stack<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, f);
        thread.unwrap().join().unwrap()
    })
}

fn open(path: &Path) -> Store {
    Store::open(path, &Options::default()).unwrap()
}

#[test]
fn a_million_levels() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep.store");
    let salvaged = dir.path().join("salvaged.store");
    on_a_small_stack(|| {
        let store = open(&path);
        shapes::nested(&store, DEPTH as usize - 1);
        store.close().unwrap();
        let report = check(&path, &mut ()).unwrap();
        assert_eq!(
            (report.findings.as_slice(), report.containers),
            (&[][..], DEPTH + 1)
        );

        let done = salvage(&path, &salvaged, &mut ()).unwrap();
        assert_eq!((done.containers, done.lost), (DEPTH + 1, 0));
        let new = open(&salvaged);
        let mut at = new.root();
        let mut levels = 0;
        while let Some(Value::Obj(next)) = new
            .read(&mut Wait::default(), |r| match r.kind(at)? {
                Kind::List => r.item(at, 0),
                _ => r.get(at, &Key::Str(b"deep")),
            })
            .unwrap()
        {
            at = next;
            levels += 1;
        }
        assert_eq!(levels, DEPTH);
        new.close().unwrap();

        // The deletion returns at once and is finished in steps.
        let store = open(&path);
        let root = store.root();
        shapes::write(&store, |w| w.remove(root, &Key::Str(b"deep")));
        // Operations free some containers at their end; those are not counted.
        let freed = store.gc().unwrap();
        assert!(freed > DEPTH / 2 && freed <= DEPTH, "{freed}");
        assert_eq!(store.check().unwrap().containers.len(), 1);
        // A cycle of the same size, which only the collector can free.
        shapes::nested(&store, DEPTH as usize - 1);
        shapes::close_cycle(&store, DEPTH);
        shapes::write(&store, |w| w.remove(root, &Key::Str(b"deep")));
        let freed = store.gc().unwrap();
        assert!(freed > DEPTH / 2 && freed <= DEPTH, "{freed}");
        store.close().unwrap();
        let report = check(&path, &mut ()).unwrap();
        assert_eq!((report.findings.as_slice(), report.containers), (&[][..], 1));
    });
}

//! The change feed without the changes of its own opening of the store, which the mount knows already.

mod common;

use common::{open, scratch};
use persist_core::store::door::{Change, Changes};
use persist_core::store::{Actor, Durability, In, Key, Store, Value, Wait};

fn set(s: &Store, key: &str) {
    let done = s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(s.root(), &Key::Str(key.as_bytes()), &In::Int(1))
    });
    done.unwrap();
}

#[test]
fn own_changes_can_be_left_out() {
    let dir = scratch();
    let mine = open(dir.path(), Durability::Checkpoint, None);
    let theirs = open(dir.path(), Durability::Checkpoint, None);
    let (mut all, mut others) = (mine.feed().unwrap(), mine.feed().unwrap());
    others.leave_out_own();
    for feed in [&mut all, &mut others] {
        feed.watch(mine.root(), &mut Wait::default()).unwrap();
    }
    set(&mine, "mine");
    set(&theirs, "theirs");
    set(&mine, "also mine");
    let keys = |found: Option<Changes>| -> Vec<String> {
        let Some(Changes::These(changes)) = found else {
            panic!("{found:?}");
        };
        let key = |change: &Change| match change {
            Change::Entry {
                key: Value::Str { bytes, .. },
                ..
            } => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        changes.iter().map(key).collect()
    };
    assert_eq!(
        keys(all.next(&mut Wait::never()).unwrap()),
        ["mine", "theirs", "also mine"]
    );
    assert_eq!(keys(others.next(&mut Wait::never()).unwrap()), ["theirs"]);
    set(&mine, "mine");
    assert_eq!(others.next(&mut Wait::never()).unwrap(), None);
    mine.close().unwrap();
    theirs.close().unwrap();
}

//! The change feed tells the changes of its own opening of the store from those of others.

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
fn own_changes_are_distinguished() {
    let dir = scratch();
    let mine = open(dir.path(), Durability::Checkpoint, None);
    let theirs = open(dir.path(), Durability::Checkpoint, None);
    let mut feed = mine.feed().unwrap();
    feed.watch(mine.root(), &mut Wait::default()).unwrap();
    set(&mine, "mine");
    set(&theirs, "theirs");
    set(&mine, "also mine");
    let Some(Changes::These(changes)) = feed.next(&mut Wait::never()).unwrap() else {
        panic!("three changes");
    };
    let key = |change: &Change| match change {
        Change::Entry {
            key: Value::Str { bytes, .. },
            ..
        } => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let keys: Vec<String> = changes.iter().map(key).collect();
    assert_eq!(keys, ["mine", "theirs", "also mine"]);
    assert_eq!(feed.own(), [true, false, true]);
    mine.close().unwrap();
    theirs.close().unwrap();
}

//! Views and processes: holders and writers that are killed or stopped, and forks.

use super::common::scratch;
use super::support::player::{Player, role};
use super::support::process;
use super::{get, nothing_lost, options, set, take};
use persist_core::Error;
use persist_core::store::{Actor, In, Key, Store, Value, Wait};
use std::path::Path;
use std::time::{Duration, Instant};

/// In a child: do what the role says, and stop.
pub(super) fn play() {
    let Some((role, path)) = role() else {
        return;
    };
    let store = Store::open(path, &options()).unwrap();
    match &*role {
        "holds a view" => {
            let view = take(&store);
            let was = get(&view, "n").unwrap();
            process::stop_here();
            assert_eq!(get(&view, "n").unwrap(), was);
            view.check().unwrap();
        }
        "changes" => {
            for n in 0..200 {
                set(&store, "n", &In::Int(1000 + n));
                set(&store, &format!("k{}", n % 50), &In::Bytes(&[n as u8; 2000]));
                if n % 20 == 19 {
                    store.sync().unwrap();
                }
            }
        }
        "has a transaction" => {
            store.begin(&mut Wait::default()).unwrap();
            set(&store, "n", &In::Int(-1));
            set(&store, "k3", &In::Bytes(&[255; 2000]));
            process::stop_here();
            store.commit().unwrap();
        }
        other => panic!("{other}"),
    }
    store.close().unwrap();
}

fn filled(path: &Path) -> Store {
    let store = Store::open(path, &options()).unwrap();
    for i in 0..50 {
        set(&store, &format!("k{i}"), &In::Bytes(&[7; 2000]));
    }
    set(&store, "n", &In::Int(0));
    store
}

fn is_as_filled(view: &Store) {
    assert_eq!(get(view, "n").unwrap(), Some(Value::Int(0)));
    for i in 0..50 {
        let found = get(view, &format!("k{i}")).unwrap();
        assert_eq!(found, Some(Value::Bytes((&[7u8; 2000][..]).into())), "k{i}");
    }
    view.check().unwrap();
}

fn changes(store: &Store, rounds: i64) {
    for n in 0..rounds {
        set(store, "n", &In::Int(n + 1));
        for i in 0..50 {
            set(store, &format!("k{i}"), &In::Bytes(&[n as u8; 2000]));
        }
        store.sync().unwrap();
    }
}

#[test]
fn a_killed_holder_keeps_nothing() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = filled(&path);
    let holder = Player::start("holds a view", &path, "");
    assert!(holder.is_stopped());
    changes(&store, 5);
    let held = store.stat().unwrap().file_pages;
    holder.kill();
    nothing_lost(&store, "killed");
    changes(&store, 5);
    assert!(store.stat().unwrap().file_pages <= held + 200);
    nothing_lost(&store, "killed, and more changes");
}

/// A stopped holder delays no writer, and still has its view when it continues.
#[test]
fn a_stopped_holder_keeps_its_view_and_delays_no_writer() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = filled(&path);
    let holder = Player::start("holds a view", &path, "");
    assert!(holder.is_stopped());
    let quick = (0..8).any(|n| {
        let begun = Instant::now();
        set(&store, "n", &In::Int(n));
        begun.elapsed() < Duration::from_millis(100)
    });
    assert!(quick, "a stopped holder of a view delays writers");
    changes(&store, 4);
    holder.ends_well();
    nothing_lost(&store, "ended");
}

/// A writer is killed at each of its steps that concern a view which another process holds.
#[test]
fn a_view_survives_writers_and_checkpoints_that_are_killed() {
    let points = [
        "cow.intended",
        "cow.copied",
        "cow.listed",
        "cow.replaced",
        "undo.logged",
        "commit.operation",
        "checkpoint.flip",
        "checkpoint.flushed",
        "checkpoint.meta",
        "checkpoint.giving",
        "checkpoint.freed",
        "view.kept",
    ];
    let mut stopped = 0;
    for point in points {
        for nth in [1, 7] {
            let dir = scratch();
            let path = dir.path().join("a.store");
            let store = filled(&path);
            let view = take(&store);
            changes(&store, 2);
            let second = take(&store);
            let writer = Player::start("changes", &path, &format!("{point}={nth}"));
            if writer.is_stopped() {
                stopped += 1;
                is_as_filled(&view);
                writer.kill();
            }
            is_as_filled(&view);
            changes(&store, 3);
            is_as_filled(&view);
            assert_eq!(get(&second, "n").unwrap(), Some(Value::Int(2)), "{point}");
            view.close().unwrap();
            assert_eq!(
                get(&second, "k1").unwrap(),
                Some(Value::Bytes((&[1u8; 2000][..]).into()))
            );
            drop(second);
            nothing_lost(&store, point);
            store.check().unwrap();
        }
    }
    assert!(stopped >= points.len(), "only {stopped} were stopped");
}

/// The holder is killed while its view is being taken, and freed pages are being given back.
#[test]
fn takers_and_those_that_give_back_are_killed() {
    for point in ["view.claimed", "view.begun"] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = filled(&path);
        let taker = Player::start("holds a view", &path, &format!("{point}=1"));
        assert!(taker.is_stopped(), "{point}");
        changes(&store, 3);
        taker.kill();
        nothing_lost(&store, point);
    }
    for nth in [1, 5] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = filled(&path);
        let view = take(&store);
        changes(&store, 3);
        drop(view);
        let other = Player::start("changes", &path, &format!("view.giving={nth}"));
        assert!(other.is_stopped());
        other.kill();
        nothing_lost(&store, "view.giving");
        store.check().unwrap();
    }
}

/// A view beside a transaction of a process that is stopped, committed or killed shows the state before it.
#[test]
fn a_view_shows_the_state_before_a_transaction_of_another_process() {
    for killed in [false, true] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = filled(&path);
        let other = Player::start("has a transaction", &path, "");
        assert!(other.is_stopped());
        let view = take(&store);
        is_as_filled(&view);
        if killed {
            other.kill();
        } else {
            other.ends_well();
        }
        is_as_filled(&view);
        set(&store, "n", &In::Int(5));
        changes(&store, 2);
        is_as_filled(&view);
        drop(view);
        nothing_lost(&store, "after the transaction");
    }
}

/// A writer is stopped in the middle of a change: a view can be taken, and keeps its state when the writer continues.
#[test]
fn a_view_can_be_taken_beside_a_stopped_writer() {
    for point in [
        "undo.logged=40",
        "cow.replaced=3",
        "commit.operation=5",
        "commit.done=5",
    ] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = filled(&path);
        let writer = Player::start("changes", &path, point);
        assert!(writer.is_stopped(), "{point}");
        let view = take(&store);
        let text = super::common::Model::read(&view).unwrap().text();
        writer.ends_well();
        let again = super::common::Model::read(&view).unwrap().text();
        assert!(text == again, "{point}: the view has changed");
        changes(&store, 3);
        let again = super::common::Model::read(&view).unwrap().text();
        assert!(text == again, "{point}: the view has changed later");
        view.check().unwrap();
        drop(view);
        nothing_lost(&store, point);
    }
}

/// A forked child reads its parent's view, and its end there is the child's only.
#[test]
fn a_fork_leaves_the_view_to_the_parent() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = filled(&path);
    let view = take(&store);
    changes(&store, 1);
    let child = process::fork(|| {
        is_as_filled(&view);
        let mine = take(&store);
        assert_eq!(get(&mine, "n").unwrap(), Some(Value::Int(1)));
        view.close().unwrap();
        assert!(matches!(get(&view, "n"), Err(Error::ViewEnded { .. })));
        0
    });
    assert_eq!(process::reap(child), process::Stop::Exited(0));
    changes(&store, 3);
    is_as_filled(&view);
    let _ = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(store.root(), &Key::Str(b"z"), &In::Int(1))
    });
    drop(view);
    nothing_lost(&store, "after a fork");
}

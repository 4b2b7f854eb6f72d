//! Times of change beside transactions: readers of the committed state see the times of the contents that they see.

use persist_core::store::{Actor, Durability, In, Key, Obj, Options, Result, Store, Wait};
use std::thread;

/// Two openings of a store with two dicts whose times are long past.
struct Two {
    writer: Store,
    reader: Store,
    dicts: [Obj; 2],
    _dir: tempfile::TempDir,
}

const OLD: u64 = 1_000_000_000;

impl Two {
    fn new(durability: Durability) -> Two {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            durability,
            ..Options::default()
        };
        let path = dir.path().join("a.store");
        let (writer, reader) = (
            Store::open(&path, &options).unwrap(),
            Store::open(&path, &options).unwrap(),
        );
        let dicts = writer
            .write(Actor::Thread, &mut Wait::default(), |w| {
                let dicts = [w.new_dict()?, w.new_dict()?];
                for (n, dict) in dicts.into_iter().enumerate() {
                    w.set(dict, &Key::Int(0), &In::Int(0))?;
                    w.set(writer.root(), &Key::Int(n as i64), &In::Obj(dict))?;
                    w.set_mtime(dict, OLD)?;
                }
                Ok(dicts)
            })
            .unwrap();
        // Memory of an earlier operation is undone, memory of the same one is not.
        writer.sync().unwrap();
        Two {
            writer,
            reader,
            dicts,
            _dir: dir,
        }
    }

    fn set(&self, n: usize, key: i64) {
        self.try_set(n, key).unwrap();
    }

    fn try_set(&self, n: usize, key: i64) -> Result<()> {
        self.writer.write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(self.dicts[n], &Key::Int(key), &In::Int(1))
        })
    }

    fn begin(&self) -> persist_core::store::Block {
        self.writer.begin(&mut Wait::default()).unwrap()
    }

    /// Return the times as the writer, and as another opening in another thread, sees them.
    fn times(&self) -> [[u64; 2]; 2] {
        let of = |store: &Store| {
            self.dicts
                .map(|d| store.read(&mut Wait::default(), |r| r.mtime(d)).unwrap())
        };
        let others = thread::scope(|scope| scope.spawn(|| of(&self.reader)).join().unwrap());
        [of(&self.writer), others]
    }
}

fn in_each_durability(test: impl Fn(Two)) {
    for durability in [Durability::Checkpoint, Durability::Commit] {
        test(Two::new(durability));
    }
}

#[test]
fn others_see_the_old_time_until_the_commit() {
    in_each_durability(|two| {
        two.begin();
        for key in [0, 1, 0] {
            two.set(0, key);
            two.set(1, key);
            let [mine, theirs] = two.times();
            assert!(mine.iter().all(|time| *time > OLD), "{mine:?}");
            assert_eq!(theirs, [OLD; 2]);
        }
        two.writer.commit().unwrap();
        let [mine, theirs] = two.times();
        assert_eq!(mine, theirs);
        assert!(mine.iter().all(|time| *time > OLD), "{mine:?}");
    });
}

#[test]
fn a_rollback_restores_the_time() {
    in_each_durability(|two| {
        two.begin();
        two.set(0, 0);
        two.set(0, 1);
        two.set(1, 1);
        two.writer.rollback().unwrap();
        assert_eq!(two.times(), [[OLD; 2]; 2]);
        // The next transaction begins again.
        two.begin();
        two.set(1, 0);
        assert_eq!(two.times()[1], [OLD; 2]);
        two.writer.rollback().unwrap();
        assert_eq!(two.times(), [[OLD; 2]; 2]);
    });
}

#[test]
fn an_inner_block_and_a_failed_operation_restore_the_time() {
    in_each_durability(|two| {
        two.begin();
        two.begin();
        two.set(0, 0);
        two.writer.rollback().unwrap();
        assert_eq!(two.times(), [[OLD; 2]; 2]);
        two.set(0, 0);
        assert_eq!(two.times()[1], [OLD; 2]);
        let failed = two.writer.write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(two.dicts[1], &Key::Int(0), &In::Int(5))?;
            w.remove_items(two.dicts[1], 0, 1)
        });
        failed.unwrap_err();
        two.set(1, 1);
        assert_eq!(two.times()[1], [OLD; 2]);
        two.writer.commit().unwrap();
        let [mine, theirs] = two.times();
        assert_eq!(mine, theirs);
        assert!(mine.iter().all(|time| *time > OLD), "{mine:?}");
    });
}

//! Leases whose kernel does not answer as it should.

use super::*;
use persist_core::store::{Key, Options, Wait};
use std::error::Error;
use std::fs::File;

type Tested = Result<(), Box<dyn Error>>;

/// A store and its leases. Everything that the kernel is told fails.
fn leases_of_a_failing_kernel(dir: &tempfile::TempDir) -> Result<(Store, Arc<Leases>), Box<dyn Error>> {
    let options = Options {
        create: true,
        ..Options::default()
    };
    let store = Store::open(dir.path().join("a.store"), &options)?;
    let leases = Arc::new(Leases::new(store.clone()));
    // This descriptor cannot be written to.
    let kernel = Kernel::new(File::open("/dev/null")?.into(), None, true);
    assert!(leases.kernel.set(kernel).is_ok() && store.hold_leases()?);
    leases.on.store(true, Ordering::SeqCst);
    Ok((store, leases))
}

#[test]
fn a_lease_stays_until_what_the_kernel_does_not_forget_has_expired() -> Tested {
    let dir = tempfile::tempdir()?;
    for kept in [Kept::Attributes(7), Kept::Entry(1, b"x")] {
        let (store, leases) = leases_of_a_failing_kernel(&dir)?;
        let bucket = store.lease_bucket(store.root(), Some(&Key::Str(b"x")));
        let mut held = Held::new(&leases, 0);
        let covered = store.read(&mut Wait::default(), |r| Ok(held.take(r, bucket)))?;
        assert_eq!(covered, Some(bucket));
        let begun = Instant::now();
        let ttl = held.ttl(covered);
        assert!(!ttl.is_zero());
        held.replied([(covered, ttl, kept)]);
        store.hold_back(bucket);
        let wanted = || store.held_leases().into_iter().find(|lease| lease.wanted);
        while let Some(lease) = wanted() {
            leases.give_up(&lease);
            assert!(
                wanted().is_none_or(|_| !leases.may_keep()),
                "nothing more is leased"
            );
            assert!(begun.elapsed() < Duration::from_secs(60), "{kept:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(begun.elapsed() > ttl, "{kept:?}");
        let refused = store.read(
            &mut Wait::default(),
            |r| Ok(Held::new(&leases, 0).take(r, bucket)),
        )?;
        assert!(refused.is_none());
        leases.end();
        store.close()?;
    }
    Ok(())
}

/// A reply that is under way names an inode that no record has yet. A change that does not wait for it lets the kernel
/// keep the earlier attributes. Requests that come during this are answered without leases.
#[test]
fn a_change_waits_for_the_replies_under_way_however_late() -> Tested {
    let dir = tempfile::tempdir()?;
    let (store, leases) = leases_of_a_failing_kernel(&dir)?;
    let bucket = store.lease_bucket(store.root(), None);
    let mut reader = Held::new(&leases, 0);
    let covered = store.read(&mut Wait::default(), |r| Ok(reader.take(r, bucket)))?;
    assert_eq!(covered, Some(bucket));
    let (calls, done) = (store.lease_calls(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let change = scope.spawn(|| {
            drop(leases.changed(calls, vec![bucket]));
            done.store(true, Ordering::SeqCst);
        });
        while lock(&leases.bucket(bucket).state).awaiting == 0 && !change.is_finished() {
            std::thread::yield_now();
        }
        let refused = store.read(
            &mut Wait::default(),
            |r| Ok(Held::new(&leases, 0).take(r, bucket)),
        )?;
        let is_over = || reader.ttl(covered).is_zero();
        assert!(
            refused.is_none() || is_over(),
            "a reader that comes later prolongs the wait"
        );
        while !done.load(Ordering::SeqCst) && !is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(is_over(), "the reply would be kept after the change");
        drop(reader);
        Ok::<(), Box<dyn Error>>(())
    })?;
    leases.end();
    Ok(store.close()?)
}

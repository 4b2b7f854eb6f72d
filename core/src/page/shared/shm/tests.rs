//! Tests of the sidecar's layout and growth.

use super::*;
use crate::page::shared::layout::{FREEMAP, LIST_SIZE, LOG, LOG_SIZE, UNDO};

/// The regions of this build's sidecar, filled to the last byte: the sidecar is accepted at every step.
#[test]
fn a_full_region_is_one_that_others_can_map() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(dir.path().join("a-shm")).unwrap()
    };
    let shm = Shm::map(open()).unwrap();
    shm.allocate_fixed().unwrap();
    for region in [
        Region::Undo,
        Region::List(0),
        Region::List(1),
        Region::List(2),
        Region::Log,
    ] {
        let (_, size) = region.place();
        let size = size.min(16 << 20);
        for bytes in (size / 64..=size).step_by(size / 64) {
            shm.ensure(region, bytes).unwrap();
            assert!(
                Shm::map_checked(open()).unwrap().is_some(),
                "{} {bytes}",
                region.name()
            );
        }
        let past = shm.ensure(region, region.place().1 + 8);
        assert!(matches!(past, Err(Error::TransactionTooLarge { .. })), "{past:?}");
    }
}

/// A place in a region maps to the byte of the file that its piece gives.
#[test]
fn a_cell_is_where_its_piece_is() {
    fn check<const START: usize>(size: usize) {
        let parts = Parts::of(START);
        for offset in [0, 8, 4096, parts.len - 8, parts.len, parts.len + 8, size - 8] {
            if offset < size {
                let (file, _) = in_file(START + offset, 8).next().unwrap();
                assert_eq!(parts.place(offset) as u64, file, "{START:#x} + {offset:#x}");
            }
        }
    }
    check::<PINS>(REGIONS[0].1);
    check::<UNDO>(REGIONS[1].1);
    check::<LISTS>(LIST_SIZE);
    check::<{ LISTS + LIST_STEP }>(LIST_SIZE);
    check::<{ LISTS + 2 * LIST_STEP }>(LIST_SIZE);
    check::<FREEMAP>(REGIONS[5].1);
    check::<TABLE>(REGIONS[6].1);
    check::<LOG>(LOG_SIZE);
    let dir = tempfile::tempdir().unwrap();
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let shm = Shm::map(options.open(dir.path().join("a-shm")).unwrap()).unwrap();
    shm.allocate_fixed().unwrap();
    let edge = Parts::of(UNDO).len;
    shm.ensure(Region::Undo, edge + 4096).unwrap();
    for from in [edge - 64, edge - 32, edge - 8, edge, edge + 8] {
        let (first, rest) = shm.cells::<UNDO>(from, 8);
        assert_eq!(first.len() + rest.len(), 8);
        for (i, word) in first.iter().chain(rest).enumerate() {
            assert!(std::ptr::eq(word, shm.cell::<UNDO>(from + 8 * i)));
        }
    }
}

/// A sidecar that is growing is not mistaken for a truncated one.
#[test]
fn a_process_that_maps_it_at_the_same_time_lets_it_grow() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let file = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(dir.path().join(round.to_string())).unwrap()
        };
        let shm = Shm::map(file()).unwrap();
        shm.allocate_fixed().unwrap();
        std::thread::scope(|s| {
            let grower = s.spawn(|| {
                for bytes in (16 << 10..1 << 20).step_by(16 << 10) {
                    for region in [Region::Undo, Region::List(0), Region::List(1), Region::Table] {
                        shm.ensure(region, bytes).unwrap();
                    }
                }
            });
            while !grower.is_finished() {
                assert!(Shm::map_checked(file()).unwrap().is_some());
            }
        });
    }
}

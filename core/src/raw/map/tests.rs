//! Tests of the mapping of the store's file.

use super::*;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

fn file(pages: usize) -> Arc<Held> {
    let file = tempfile::tempfile().unwrap();
    for page in 0..pages {
        file.write_all_at(&[page as u8; PAGE_SIZE], (page * PAGE_SIZE) as u64)
            .unwrap();
    }
    Arc::new(Held::new(file))
}

#[test]
fn what_was_taken_stays_while_threads_make_it_grow() {
    let pages = 4 * LEAST / PAGE_SIZE;
    let file = file(pages);
    let map = Map::growing(Arc::clone(&file), PAGE_SIZE, 64 * LEAST).unwrap();
    // SAFETY: no thread writes the page.
    let first = unsafe { map.page(PhysicalPage(1)) }.unwrap();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for page in 0..pages {
                    // SAFETY: no thread writes the page.
                    let bytes = unsafe { map.page(PhysicalPage(page as u32)) }.unwrap();
                    assert_eq!(bytes, &[page as u8; PAGE_SIZE]);
                }
            });
        }
    });
    assert!(map.windows().len() > 1);
    let whole: usize = map.windows().iter().map(|w| w.map.len()).sum();
    assert!(whole < 2 * AHEAD * pages * PAGE_SIZE, "{whole}");
    // Both windows show the same memory: a write through either is visible in the other. SAFETY: only
    // this thread uses the map, and the slice is not used afterwards.
    unsafe { map.page_mut(PhysicalPage(1)) }.unwrap().fill(0xee);
    let seen = std::hint::black_box(first.as_ptr());
    // SAFETY: the older window is mapped for as long as `map` lives.
    assert_eq!(unsafe { seen.read_volatile() }, 0xee);
}

#[test]
fn a_page_behind_the_file_or_the_largest_store_is_an_error() {
    let map = Map::growing(file(2), PAGE_SIZE, 8 * LEAST).unwrap();
    let behind = |page: usize| map.page_ptr(PhysicalPage(page as u32)).unwrap_err();
    assert!(matches!(behind(LEAST / PAGE_SIZE), Error::Corrupt { .. }));
    assert!(matches!(behind(8 * LEAST / PAGE_SIZE), Error::Corrupt { .. }));
    assert!(matches!(behind(u32::MAX as usize), Error::Corrupt { .. }));
    assert_eq!(map.windows().len(), 1);
}

#[test]
fn a_descriptor_that_is_another_files_is_not_mapped() {
    let file = file(2 * LEAST / PAGE_SIZE);
    let map = Map::growing(Arc::clone(&file), PAGE_SIZE, 8 * LEAST).unwrap();
    let other = tempfile::tempfile().unwrap();
    other.set_len(4 * LEAST as u64).unwrap();
    // SAFETY: the descriptor is this test's own.
    unsafe { libc::dup2(other.as_raw_fd(), file.using().unwrap().as_raw_fd()) };
    let e = map.reach(2 * LEAST).unwrap_err();
    assert!(e.to_string().contains("descriptor"), "{e}");
    // SAFETY: no thread writes the page.
    assert_eq!(unsafe { map.page(PhysicalPage(1)) }.unwrap(), &[1; PAGE_SIZE]);
}

/// A fault in a page of a later window is found as one in the first window is.
#[test]
fn faults_are_found_in_every_window() {
    let pages = 2 * LEAST / PAGE_SIZE;
    let file = file(pages);
    let map = Map::growing(Arc::clone(&file), PAGE_SIZE, 8 * LEAST).unwrap();
    map.reach(pages * PAGE_SIZE).unwrap();
    assert_eq!(map.windows().len(), 2);
    assert_eq!(map.fault(), None);
    file.using().unwrap().set_len(PAGE_SIZE as u64).unwrap();
    // SAFETY: no thread writes the page.
    let bytes = unsafe { map.page(PhysicalPage(pages as u32 - 1)) }.unwrap();
    assert_eq!(std::hint::black_box(bytes)[7], 0);
    assert_eq!(map.fault(), Some((pages - 1) * PAGE_SIZE + 7));
}

#[test]
fn a_time_of_change_moves_with_each_change() {
    let map = Map::growing(file(1), PAGE_SIZE, LEAST).unwrap();
    let stored = |now: u64| {
        // SAFETY: only this thread uses the map.
        unsafe { map.store_time(PhysicalPage(0), 8, now) }.unwrap();
        // SAFETY: as above.
        let page = unsafe { map.page(PhysicalPage(0)) }.unwrap();
        u64::from_le_bytes(page[8..16].try_into().unwrap())
    };
    let tick = 4_000_000;
    assert_eq!(stored(tick), tick);
    assert_eq!([stored(tick), stored(tick)], [tick + 1, tick + 2]);
    assert_eq!(stored(2 * tick), 2 * tick);
    assert_eq!(
        stored(2 * tick - 1),
        2 * tick + 1,
        "another CPU's clock is behind"
    );
    assert_eq!(stored(5_000_000_000), 5_000_000_000);
    assert_eq!(stored(1_000_000_000), 1_000_000_000, "the clock was set back");
    assert_eq!(stored(u64::MAX), u64::MAX);
    assert_eq!(stored(u64::MAX), 0, "a time without meaning does not panic");
}

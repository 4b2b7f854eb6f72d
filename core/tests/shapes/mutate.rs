//! Random damage of a file: each seed gives one damaged file.
//!
//! Half of the mutations leave the checksums unchanged: everything that can still be read must then be right. The other
//! half make them valid again, so that the damage reaches the heap and the objects.

use super::damage::{Image, PAGE};

#[path = "../common/random.rs"]
mod random;

pub use random::Rng;

const ADDR: u64 = (1 << 48) - 1;

/// Damage a file and leave the checksums unchanged.
pub fn raw(image: &mut Image, rng: &mut Rng) {
    for _ in 0..=rng.below(3) {
        let pages = image.pages();
        if pages < 4 {
            return;
        }
        let (a, b) = (rng.below(pages), rng.below(pages));
        match rng.below(8) {
            0 => {
                for _ in 0..=rng.below(20) {
                    let bit = rng.below(image.bytes.len() * 8);
                    image.bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            1 => {
                let bit = rng.below(2 * PAGE * 8);
                image.bytes[bit / 8] ^= 1 << (bit % 8);
            }
            2 => {
                let len = rng.below(image.bytes.len());
                image
                    .bytes
                    .truncate(if rng.one_in(2) { len / PAGE * PAGE } else { len });
            }
            3 => {
                let (x, y) = (image.page(a).to_vec(), image.page(b).to_vec());
                image.page(a).copy_from_slice(&y);
                image.page(b).copy_from_slice(&x);
            }
            4 => image.page(a).fill(0),
            5 => image.page(a).iter_mut().for_each(|byte| *byte = rng.next() as u8),
            6 => {
                let x = image.page(a).to_vec();
                image.page(b).copy_from_slice(&x);
            }
            _ => {
                let at = rng.below(PAGE - 64);
                image.page(a)[at..at + 64]
                    .iter_mut()
                    .for_each(|byte| *byte = rng.next() as u8);
            }
        }
    }
}

/// Damage a file and make all checksums valid again.
pub fn deep(image: &mut Image, rng: &mut Rng) {
    image.copy_newest_over_previous();
    let mapped = image.mapped();
    if mapped.is_empty() {
        return;
    }
    for _ in 0..=rng.below(4) {
        match rng.below(20) {
            0 => meta(image, rng),
            1 => table(image, rng, &mapped),
            2 => {
                let (a, b) = (*rng.pick(&mapped), *rng.pick(&mapped));
                let (x, y) = (image.page(a.1).to_vec(), image.page(b.1).to_vec());
                image.page(a.1).copy_from_slice(&y);
                image.page(b.1).copy_from_slice(&x);
                image.mend(a.0);
                image.mend(b.0);
            }
            3 => {
                let page = *rng.pick(&mapped);
                for _ in 0..=rng.below(8) {
                    let bit = rng.below(PAGE * 8);
                    image.page(page.1)[bit / 8] ^= 1 << (bit % 8);
                }
                image.mend(page.0);
            }
            // Free lists, list heads, the root: a page that is otherwise rarely chosen.
            4 => word(image, rng, &mapped, mapped[0]),
            _ => {
                let page = *rng.pick(&mapped);
                word(image, rng, &mapped, page);
            }
        }
    }
}

fn meta(image: &mut Image, rng: &mut Rng) {
    let at = *rng.pick(&[32, 40, 44, 48, 56, 64, 72, 80, 88, 96]);
    let value = match rng.below(5) {
        0 => u64::MAX,
        1 => 0,
        2 => 1 << rng.below(64),
        3 => rng.next(),
        _ => rng.below(64) as u64,
    };
    image.set_meta(rng.below(2), at / 8 * 8, value);
}

/// The page table: an entry gets the value of another, or points to itself, or anywhere.
fn table(image: &mut Image, rng: &mut Rng, mapped: &[(u64, usize)]) {
    let way = image.way(rng.pick(mapped).0).unwrap_or_default();
    let other = image.way(rng.pick(mapped).0).unwrap_or_default();
    if way.len() < 2 || other.len() < 2 {
        return;
    }
    let (node, entry) = way[rng.below(way.len() - 1)];
    match rng.below(4) {
        0 => {
            let (from, at) = other[rng.below(other.len() - 1)];
            let theirs = image.page(from)[at..at + 16].to_vec();
            let to = rng.below(256) * 16;
            image.page(node)[to..to + 16].copy_from_slice(&theirs);
        }
        1 => image.page(node)[entry..entry + 4].copy_from_slice(&(node as u32).to_le_bytes()),
        2 => {
            let physical = rng.below(image.pages() + 10) as u32;
            image.page(node)[entry..entry + 4].copy_from_slice(&physical.to_le_bytes());
        }
        _ => image.page(node)[entry..entry + 16].fill(0),
    }
    for &(logical, _) in mapped.iter().take(3000) {
        image.mend(logical);
    }
    image.mend_root();
}

/// Replace a word of a page by another plausible word.
fn word(image: &mut Image, rng: &mut Rng, mapped: &[(u64, usize)], (logical, physical): (u64, usize)) {
    let pages: Vec<u64> = mapped.iter().map(|m| m.0).collect();
    let get = |image: &Image, physical: usize, at: usize| {
        let at = physical * PAGE + at;
        u64::from_le_bytes(image.bytes[at..at + 8].try_into().unwrap())
    };
    // Choose a place that is not zero, since zeros rarely have a meaning.
    let mut at = rng.below(PAGE / 8) * 8;
    for _ in 0..64 {
        if get(image, physical, at) != 0 {
            break;
        }
        at = rng.below(PAGE / 8) * 8;
    }
    let old = get(image, physical, at);
    let is_address = |w: u64| w & ADDR != 0 && pages.binary_search(&((w & ADDR) / PAGE as u64)).is_ok();
    // An address that occurs somewhere, or any address in an existing page.
    let address = |image: &Image, rng: &mut Rng| {
        for _ in 0..200 {
            let from = rng.pick(mapped).1;
            let found = get(image, from, rng.below(PAGE / 8) * 8);
            if is_address(found) {
                return found & ADDR;
            }
        }
        rng.pick(&pages) * PAGE as u64 + rng.below(PAGE) as u64
    };
    let new = if is_address(old) {
        let other = address(image, rng);
        match rng.below(6) {
            // The same kind of pointer, to another place; to itself; next to its old target.
            0 | 1 => old & !ADDR | other,
            2 => old & !ADDR | (logical * PAGE as u64 + (at as u64 & !63)),
            3 => old.wrapping_add(*rng.pick(&[8, 16, 64, 4096, u64::MAX - 15, u64::MAX - 4095])),
            4 => old ^ 1 << (48 + rng.below(16)),
            _ => old & !ADDR | rng.next() & ADDR,
        }
    } else {
        match rng.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => old ^ 1 << rng.below(64),
            3 => old.wrapping_add(*rng.pick(&[1, u64::MAX, 1 << 16, 1 << 32, 1 << 40])),
            4 => 1 << rng.below(64),
            5 => rng.next(),
            6 => address(image, rng) | (4 + rng.below(2) as u64) << 48,
            _ => get(image, rng.pick(mapped).1, at),
        }
    };
    image.bytes[physical * PAGE + at..physical * PAGE + at + 8].copy_from_slice(&new.to_le_bytes());
    image.mend(logical);
}

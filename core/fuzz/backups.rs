//! From an input to damaged backups: the first byte chooses (bit 0: the checksums are made right again; bit 1: the
//! incremental backup is restored, too), then come words as in `input`; the pages of the full backup first, then the
//! records of the incremental one, the last of which stands for its header.

use crate::input::{MOST, kept};
use crate::shapes::damage::{Image, PAGE};
use crate::shapes::{small, write};
use persist_core::backup::{Options, backup};
use persist_core::store::{In, Key, Options as OpenOptions, Store};
use std::sync::OnceLock;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// Bytes of an incremental backup's header, and of a record's before its page (see `backup/format.rs`).
const HEADER: usize = 136;
const HEAD: usize = 16;
const GONE: u64 = 1 << 63;

fn bases() -> &'static [Vec<u8>; 2] {
    static BASES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    BASES.get_or_init(|| {
        kept(["full.backup", "more.backup"], |path| {
            let store = Store::open(path, &OpenOptions::default()).unwrap();
            let root = store.root();
            small(&store);
            let stream = |since: Option<&str>, keep: &str| {
                let (mut options, mut bytes) = (Options::default(), Vec::new());
                options.since = since.map(str::to_owned);
                options.keep = Some(keep.to_owned());
                backup(path, &mut bytes, &options, &mut ()).unwrap();
                bytes
            };
            let full = stream(None, "a");
            for n in 0..30 {
                write(&store, |w| w.remove(root, &Key::Int(n)));
                write(&store, |w| w.set(root, &Key::Int(n + 100), &In::Bytes(&[5; 900])));
            }
            store.gc().unwrap();
            let more = stream(Some("a"), "b");
            store.close().unwrap();
            [full, more]
        })
    })
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Where the records of an incremental backup are, the end too, and whether a page follows.
fn records(bytes: &[u8]) -> Vec<(usize, bool)> {
    let (mut at, mut all) = (HEADER, Vec::new());
    while at + HEAD <= bytes.len() {
        let has_page = word(bytes, at) & GONE == 0;
        all.push((at, has_page));
        at += HEAD + if has_page { PAGE } else { 0 };
    }
    all
}

/// A full backup, and an incremental one.
pub fn of(data: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let (&first, words) = data.split_first()?;
    let mend = first & 1 != 0;
    let [full, more] = bases();
    let mut full = Image { bytes: full.clone() };
    let mut more = more.clone();
    let (mapped, records) = (full.mapped(), records(&more));
    for word in words.chunks_exact(12).take(MOST) {
        let short = |at: usize| usize::from(u16::from_le_bytes([word[at], word[at + 1]]));
        let (n, at) = (short(0) % (full.pages() + records.len() + 1), short(2));
        if n < full.pages() {
            let at = at % (PAGE / 8) * 8;
            full.page(n)[at..at + 8].copy_from_slice(&word[4..]);
            if mend && n < 2 && at < PAGE - 8 {
                full.set_meta(n, at, u64::from_le_bytes(word[4..].try_into().unwrap()));
            }
            continue;
        }
        let (from, len) = match records.get(n - full.pages()) {
            Some((from, has_page)) => (*from, HEAD + if *has_page { PAGE } else { 0 }),
            None => (0, HEADER),
        };
        let at = from + at % (len / 8) * 8;
        more[at..at + 8].copy_from_slice(&word[4..]);
    }
    if mend {
        for (logical, _) in mapped {
            full.mend(logical);
        }
        mend_records(&mut more, &records);
    }
    Some((full.bytes, (first & 2 != 0).then_some(more)))
}

fn mend_records(more: &mut [u8], records: &[(usize, bool)]) {
    let sum = xxh3_64(&more[..HEADER - 8]).to_le_bytes();
    more[HEADER - 8..HEADER].copy_from_slice(&sum);
    let mut digest = Xxh3Default::new();
    digest.update(&sum);
    for (i, &(at, has_page)) in records.iter().enumerate() {
        if i + 1 == records.len() {
            let sum = digest.digest().to_le_bytes();
            more[at + 8..at + 16].copy_from_slice(&sum);
            return;
        }
        if has_page {
            let sum = xxh3_64(&more[at + HEAD..at + HEAD + PAGE]).to_le_bytes();
            more[at + 8..at + 16].copy_from_slice(&sum);
        }
        digest.update(&more[at..at + HEAD]);
    }
}

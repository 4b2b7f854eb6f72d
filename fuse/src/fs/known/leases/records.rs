//! Records of what the kernel keeps of a bucket. They are as many as the names that the kernel holds, so they are
//! small, and the memory for them grows by a quarter at a time.

use super::super::forgetting::Kept;

/// Records of a bucket before the expired ones are removed.
const CROWDED: usize = 64;

/// Entries, one after the other:
///
/// | OFFSET | SIZE | FIELD |
/// | --- | --- | --- |
/// | 0 | 8 | until when the kernel keeps it |
/// | 8 | 8 | the inode of the directory |
/// | 16 | 2 | the length of the name |
/// | 18 | | the name |
#[derive(Default, Debug)]
pub(super) struct Entries {
    bytes: Vec<u8>,
    count: usize,
}

/// The length of a record without the name.
const HEAD: usize = 18;

/// The first record in these bytes (until when, directory, name), its length, and the rest.
fn first(bytes: &[u8]) -> Option<(u64, u64, &[u8], usize)> {
    let (until, rest) = bytes.split_first_chunk()?;
    let (parent, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let name = rest.get(..usize::from(u16::from_le_bytes(*len)))?;
    let (until, parent) = (u64::from_le_bytes(*until), u64::from_le_bytes(*parent));
    Some((until, parent, name, HEAD + name.len()))
}

impl Entries {
    /// Record until when the kernel keeps an entry. What is known already has one record, as long as they are few.
    pub(super) fn record(&mut self, now: u64, until: u64, parent: u64, name: &[u8]) {
        if self.count < CROWDED {
            let mut at = 0;
            while let Some((known, of, known_name, len)) = self.bytes.get(at..).and_then(first) {
                if of == parent && known_name == name {
                    let until = known.max(until).to_le_bytes();
                    if let Some(field) = self.bytes.get_mut(at..at + until.len()) {
                        field.copy_from_slice(&until);
                    }
                    return;
                }
                at += len;
            }
        } else if self.count.is_power_of_two() {
            self.retain(|until, _| until > now);
        }
        self.push(until, parent, name);
    }

    /// Add a record.
    pub(super) fn push(&mut self, until: u64, parent: u64, name: &[u8]) {
        // The kernel's names are shorter.
        let Ok(len) = u16::try_from(name.len()) else {
            return;
        };
        make_room(&mut self.bytes, HEAD + name.len());
        self.bytes.extend_from_slice(&until.to_le_bytes());
        self.bytes.extend_from_slice(&parent.to_le_bytes());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(name);
        self.count += 1;
    }

    /// Remove the records of which `keep` says no.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u64, Kept<'_>) -> bool) {
        let (mut from, mut to) = (0, 0);
        while let Some((until, parent, name, len)) = self.bytes.get(from..).and_then(first) {
            if keep(until, Kept::Entry(parent, name)) {
                self.bytes.copy_within(from..from + len, to);
                to += len;
            } else {
                self.count -= 1;
            }
            from += len;
        }
        self.bytes.truncate(to);
    }

    /// Move all records of another bucket to the end.
    pub(super) fn append(&mut self, other: Entries) {
        if self.count == 0 {
            *self = other;
            return;
        }
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Record until when the kernel keeps the attributes of an inode.
pub(super) fn record_attributes(records: &mut Vec<(u64, u64)>, now: u64, until: u64, ino: u64) {
    if records.len() < CROWDED {
        if let Some(known) = records.iter_mut().find(|(_, known)| *known == ino) {
            known.0 = known.0.max(until);
            return;
        }
    } else if records.len().is_power_of_two() {
        records.retain(|(until, _)| *until > now);
    }
    make_room(records, 1);
    records.push((until, ino));
}

/// Make room for `n` more.
fn make_room<T>(records: &mut Vec<T>, n: usize) {
    if records.capacity() - records.len() < n {
        records.reserve_exact(n.max(records.len() / 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(entries: &mut Entries) -> Vec<(u64, u64, Vec<u8>)> {
        let mut all = Vec::new();
        entries.retain(|until, kept| {
            if let Kept::Entry(parent, name) = kept {
                all.push((until, parent, name.to_vec()));
            }
            true
        });
        all
    }

    proptest! {
        /// The same as with a list of records.
        #[test]
        fn entries_are_those_of_a_list(acts: Vec<(u8, u64, u8, u8)>) {
            let (mut entries, mut list) = (Entries::default(), Vec::<(u64, u64, Vec<u8>)>::new());
            for (act, until, parent, len) in acts {
                let (parent, name) = (u64::from(parent % 3), vec![b'n'; usize::from(len % 40)]);
                match act % 4 {
                    0 => {
                        entries.retain(|known, _| known > until);
                        list.retain(|(known, ..)| *known > until);
                    }
                    1 => {
                        let mut other = Entries::default();
                        other.push(until, parent, &name);
                        entries.append(other);
                        list.push((until, parent, name));
                    }
                    _ => {
                        let few = list.len() < CROWDED;
                        if !few && list.len().is_power_of_two() {
                            list.retain(|(known, ..)| *known > 1);
                        }
                        match list.iter_mut().find(|(_, of, known)| few && *of == parent && *known == name) {
                            Some(known) => known.0 = known.0.max(until),
                            None => list.push((until, parent, name.clone())),
                        }
                        entries.record(1, until, parent, &name);
                    }
                }
                prop_assert_eq!(entries.is_empty(), list.is_empty());
                prop_assert_eq!(&all(&mut entries), &list);
            }
        }
    }

    #[test]
    fn many_records_have_little_room_to_spare() {
        let (mut entries, mut attributes) = (Entries::default(), Vec::new());
        for n in 0..1000u64 {
            entries.record(0, 1, n, b"name");
            record_attributes(&mut attributes, 0, 1, n);
        }
        let used = 1000 * (HEAD + b"name".len());
        assert!(entries.bytes.len() == used && entries.bytes.capacity() <= used * 5 / 4);
        assert!(attributes.len() == 1000 && attributes.capacity() <= 1250);
        for n in 1000..=1024 {
            record_attributes(&mut attributes, 1, 1, n);
        }
        assert_eq!(attributes.len(), 1, "the expired ones are removed");
    }
}

//! The names that the items of one list have at present: an ordered set of numbers with rank and select.
//!
//! The names of a list grow with the index, so the set says everything: the item at index `i` has the `i`-th smallest
//! name. The numbers are kept in blocks of 4096. A block without holes takes no memory of its own, so the names of a
//! list that was never changed take a few bytes for each 4096 items. Every operation costs a step for each block.

/// Numbers in a block.
const BLOCK: u64 = 4096;
const WORDS: usize = (BLOCK / 64) as usize;

#[derive(Clone, Debug)]
enum Bits {
    /// The names from this one on, without holes.
    Run(u64),
    /// A bit for each name.
    Map(Box<[u64; WORDS]>),
}

#[derive(Clone, Debug)]
struct Block {
    /// The first number of the block, divided by `BLOCK`.
    number: u64,
    count: u64,
    bits: Bits,
}

impl Block {
    /// How many names of the block are below an offset.
    fn rank(&self, offset: u64) -> u64 {
        match &self.bits {
            Bits::Run(from) => offset.saturating_sub(*from).min(self.count),
            Bits::Map(words) => {
                let (word, bit) = ((offset / 64) as usize, offset % 64);
                let below: u32 = words.iter().take(word).map(|w| w.count_ones()).sum();
                let rest = words.get(word).map_or(0, |w| w & ((1 << bit) - 1));
                u64::from(below + rest.count_ones())
            }
        }
    }

    fn contains(&self, offset: u64) -> bool {
        match &self.bits {
            Bits::Run(from) => (*from..from + self.count).contains(&offset),
            Bits::Map(words) => words[(offset / 64) as usize] >> (offset % 64) & 1 == 1,
        }
    }

    /// The offset of the `n`-th name, which exists.
    fn select(&self, mut n: u64) -> u64 {
        match &self.bits {
            Bits::Run(from) => from + n,
            Bits::Map(words) => {
                for (at, word) in words.iter().enumerate() {
                    let ones = u64::from(word.count_ones());
                    if n < ones {
                        let mut word = *word;
                        for _ in 0..n {
                            word &= word - 1;
                        }
                        return at as u64 * 64 + u64::from(word.trailing_zeros());
                    }
                    n -= ones;
                }
                BLOCK
            }
        }
    }

    fn map(&mut self) -> &mut [u64; WORDS] {
        if let Bits::Run(from) = self.bits {
            let mut words = Box::new([0; WORDS]);
            for offset in from..from + self.count {
                words[(offset / 64) as usize] |= 1 << (offset % 64);
            }
            self.bits = Bits::Map(words);
        }
        match &mut self.bits {
            Bits::Map(words) => words,
            Bits::Run(_) => unreachable!("made a map above"),
        }
    }

    fn remove(&mut self, offset: u64) {
        match &mut self.bits {
            Bits::Run(from) if *from == offset => *from += 1,
            Bits::Run(from) if *from + self.count - 1 == offset => {}
            _ => self.map()[(offset / 64) as usize] &= !(1 << (offset % 64)),
        }
        self.count -= 1;
    }

    fn insert(&mut self, offset: u64) {
        match &mut self.bits {
            Bits::Run(from) if *from == offset + 1 => *from = offset,
            Bits::Run(from) if *from + self.count == offset => {}
            _ => self.map()[(offset / 64) as usize] |= 1 << (offset % 64),
        }
        self.count += 1;
    }
}

/// A set of names.
#[derive(Clone, Default, Debug)]
pub(crate) struct NameSet {
    /// In order, none empty.
    blocks: Vec<Block>,
    len: u64,
}

impl NameSet {
    /// The number of names.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The place of a block, or where it would be.
    fn find(&self, number: u64) -> Result<usize, usize> {
        self.blocks.binary_search_by_key(&number, |b| b.number)
    }

    /// True if an item has this name.
    pub(crate) fn contains(&self, name: u64) -> bool {
        self.find(name / BLOCK)
            .is_ok_and(|at| self.blocks[at].contains(name % BLOCK))
    }

    /// The number of names below this one.
    pub(crate) fn rank(&self, name: u64) -> u64 {
        let (at, inside) = match self.find(name / BLOCK) {
            Ok(at) => (at, self.blocks[at].rank(name % BLOCK)),
            Err(at) => (at, 0),
        };
        self.blocks[..at].iter().map(|b| b.count).sum::<u64>() + inside
    }

    /// The index of an item; None if no item has this name.
    pub(crate) fn index(&self, name: u64) -> Option<u64> {
        self.contains(name).then(|| self.rank(name))
    }

    /// The name of the item at an index.
    pub(crate) fn select(&self, mut index: u64) -> Option<u64> {
        for block in &self.blocks {
            if index < block.count {
                return Some(block.number * BLOCK + block.select(index));
            }
            index -= block.count;
        }
        None
    }

    /// Add a name.
    pub(crate) fn insert(&mut self, name: u64) {
        let (number, offset) = (name / BLOCK, name % BLOCK);
        match self.find(number) {
            Ok(at) if self.blocks[at].contains(offset) => return,
            Ok(at) => self.blocks[at].insert(offset),
            Err(at) => {
                let bits = Bits::Run(offset);
                self.blocks.insert(
                    at,
                    Block {
                        number,
                        count: 1,
                        bits,
                    },
                );
            }
        }
        self.len += 1;
    }

    /// Add `n` names from `name` on, which are above all others.
    pub(crate) fn push_run(&mut self, mut name: u64, mut n: u64) {
        while n > 0 {
            let (number, offset) = (name / BLOCK, name % BLOCK);
            let fits = n.min(BLOCK - offset);
            match self.blocks.last_mut() {
                Some(last) if last.number == number => {
                    for offset in offset..offset + fits {
                        last.insert(offset);
                    }
                }
                _ => self.blocks.push(Block {
                    number,
                    count: fits,
                    bits: Bits::Run(offset),
                }),
            }
            self.len += fits;
            (name, n) = (name + fits, n - fits);
        }
    }

    /// Remove a name.
    pub(crate) fn remove(&mut self, name: u64) {
        let Ok(at) = self.find(name / BLOCK) else { return };
        if !self.blocks[at].contains(name % BLOCK) {
            return;
        }
        self.blocks[at].remove(name % BLOCK);
        self.len -= 1;
        if self.blocks[at].count == 0 {
            self.blocks.remove(at);
        }
    }

    /// Remove the names of `n` items from an index on, and call `gone` with each.
    pub(crate) fn remove_items(&mut self, index: u64, n: u64, gone: &mut dyn FnMut(u64)) {
        let mut n = n.min(self.len.saturating_sub(index));
        let (mut at, mut inside) = (0, index);
        while at < self.blocks.len() && inside >= self.blocks[at].count {
            inside -= self.blocks[at].count;
            at += 1;
        }
        while n > 0 && at < self.blocks.len() {
            let here = self.blocks[at].count - inside;
            let first = self.blocks[at].number * BLOCK;
            if inside == 0 && n >= here {
                let block = self.blocks.remove(at);
                (0..here).for_each(|n| gone(first + block.select(n)));
                (self.len, n) = (self.len - here, n - here);
                continue;
            }
            for _ in 0..n.min(here) {
                let offset = self.blocks[at].select(inside);
                self.blocks[at].remove(offset);
                gone(first + offset);
            }
            (self.len, n) = (self.len - n.min(here), n - n.min(here));
            (at, inside) = (at + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn it_is_an_ordered_set(ops in proptest::collection::vec((0u8..5, 0u64..9000, 0u64..5000), 1..60)) {
            let (mut set, mut model) = (NameSet::default(), BTreeSet::new());
            let mut next = 0;
            for (what, name, n) in ops {
                match what {
                    0 => {
                        set.push_run(next, n);
                        model.extend(next..next + n);
                        next += n + name % 3;
                    }
                    1 => {
                        set.insert(name);
                        model.insert(name);
                        next = next.max(name + 1);
                    }
                    2 => {
                        set.remove(name);
                        model.remove(&name);
                    }
                    3 => {
                        let gone: Vec<u64> = model.iter().skip(name as usize).take(n as usize).copied().collect();
                        let mut told = Vec::new();
                        set.remove_items(name, n, &mut |name| told.push(name));
                        prop_assert_eq!(&told, &gone);
                        gone.iter().for_each(|g| { model.remove(g); });
                    }
                    _ => {
                        prop_assert_eq!(set.rank(name), model.range(..name).count() as u64);
                        prop_assert_eq!(set.contains(name), model.contains(&name));
                    }
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                let at = name % (model.len() as u64 + 2);
                prop_assert_eq!(set.select(at), model.iter().nth(at as usize).copied());
                if let Some(name) = set.select(at) {
                    prop_assert_eq!(set.index(name), Some(at));
                }
            }
            let all: Vec<u64> = (0..set.len()).filter_map(|i| set.select(i)).collect();
            prop_assert!(all.iter().eq(model.iter()));
        }
    }

    /// A list that was listed and never changed costs next to nothing, and removing its items one by one in the order
    /// of a shell's `*` does not take quadratic time.
    #[test]
    fn a_large_list() {
        let mut set = NameSet::default();
        set.push_run(0, 10_000_000);
        assert!(set.blocks.capacity() * std::mem::size_of::<Block>() < 1 << 20);
        let mut set = NameSet::default();
        set.push_run(0, 100_000);
        let mut order: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
        order.sort();
        for (gone, name) in order.iter().enumerate() {
            let name = name.parse().unwrap_or(0);
            assert!(set.index(name).is_some());
            set.remove(name);
            assert_eq!(set.len(), 99_999 - gone as u64);
        }
        assert!(set.blocks.is_empty());
    }
}

//! The ids that all layers share. They are newtypes, so that a page number cannot be taken for an address.

use std::fmt;

/// Bytes in a page, logical or physical.
pub const PAGE_SIZE: usize = 4096;

/// A 48-bit logical byte address: logical page number * 4096 + offset. 0 is null.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(pub u64);

impl Addr {
    /// The null address.
    pub const NULL: Addr = Addr(0);
    /// The largest address that the format can hold.
    pub const MAX: u64 = (1 << 48) - 1;

    /// Return true for the null address.
    #[inline]
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Return the logical page that contains this address.
    #[inline]
    #[must_use]
    pub(crate) fn page(self) -> PageNo {
        PageNo(self.0 / PAGE_SIZE as u64)
    }

    /// Return the offset within the page, in bytes.
    #[inline]
    #[must_use]
    pub fn offset(self) -> usize {
        (self.0 % PAGE_SIZE as u64) as usize
    }
}

impl std::ops::Add<u64> for Addr {
    type Output = Addr;
    /// Address arithmetic. An address read from a damaged file may be near `u64::MAX`, so this
    /// wraps; the range check happens where the address is used.
    #[inline]
    fn add(self, bytes: u64) -> Addr {
        Addr(self.0.wrapping_add(bytes))
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A logical page number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PageNo(pub u64);

impl PageNo {
    /// Return the address of the page's first byte.
    #[inline]
    #[must_use]
    pub fn addr(self) -> Addr {
        Addr(self.0.wrapping_mul(PAGE_SIZE as u64))
    }
}

/// A physical page number: file offset / 4096. The file is limited to 2^32 pages (16 TiB).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PhysicalPage(pub u32);

/// The number of an epoch: the time between two checkpoints. Checkpoint n ends epoch n.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u32);

/// The id of a container. A store never reuses an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ObjectId(pub u64);

/// A container as upper layers hold it: its address, and the id that proves that the address still refers to
/// the same object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Obj {
    /// Address of the container's header.
    pub addr: Addr,
    /// The container's id.
    pub id: ObjectId,
}

/// The origin of an operation. It decides which locks the operation owns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Actor {
    /// The calling thread (Python, Rust).
    Thread,
    /// An open file description on the mount that holds flock locks: the kernel's lock owner, and the process that
    /// uses it, for messages.
    Flock(u64, u32),
    /// A process that holds fcntl locks through the mount: the kernel's lock owner, and the process, for messages.
    Posix(u64, u32),
    /// A plain command on the mount. It holds no locks, and locks held through a mount do not block it.
    Command,
}

/// A hasher that spreads object ids, which are small and consecutive, over a hash table.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

//! Listings of directories: `readdir` and `readdirplus`.
//!
//! 1. A listing that fails after its first entries is answered with these entries; the kernel requests the rest again.

use super::dispatch::Adapter;
use super::translate::{GENERATION, attr, errno, kind};
use crate::fs::context::{Ctx, lock};
use crate::fs::error::FsResult;
use crate::fs::known::forgetting::Kept;
use crate::fs::known::leases::{Covered, Held};
use crate::fs::requests::entries::listing::Line;
use crate::views::mounted::Mounted;
use fuser::{Errno, INodeNo, ReplyDirectory, ReplyDirectoryPlus, Request};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The reply that receives the entries of a listing.
pub(crate) trait Lines: Send + 'static {
    /// Add an entry; false if there is no room for it.
    fn take(&mut self, line: &Line<'_>) -> bool;
    /// Send the answer.
    fn done(self);
    /// Answer with an error.
    fn failed(self, errno: Errno);
}

impl Lines for ReplyDirectory {
    fn take(&mut self, line: &Line<'_>) -> bool {
        let name = OsStr::from_bytes(&line.name);
        !self.add(INodeNo(line.attr.ino), line.next, kind(line.attr.kind), name)
    }

    fn done(self) {
        self.ok();
    }

    fn failed(self, errno: Errno) {
        self.error(errno);
    }
}

impl Lines for ReplyDirectoryPlus {
    fn take(&mut self, line: &Line<'_>) -> bool {
        let (a, name) = (&line.attr, OsStr::from_bytes(&line.name));
        !self.add(INodeNo(a.ino), line.next, name, &line.ttl, &attr(a), GENERATION)
    }

    fn done(self) {
        self.ok();
    }

    fn failed(self, errno: Errno) {
        self.error(errno);
    }
}

/// What the kernel keeps of a listing: the leases, the time to live, the name, and the inode.
type Recorded = (Covered, Duration, Vec<u8>, u64);

impl Adapter {
    /// Run a listing. The arguments are the inode, the first position, and whether each entry counts as a lookup.
    pub(crate) fn list<L: Lines>(&self, req: &Request, (ino, from, plus): (u64, u64, bool), reply: L) {
        let reply = Arc::new(Mutex::new(reply));
        let lines = reply.clone();
        let list = move |m: &Mounted, ctx: &Ctx| -> FsResult<(Held, Vec<Recorded>)> {
            let mut reply = lock(&lines);
            let mut any = false;
            let mut held = if plus { m.held(ctx, ino) } else { Held::none() };
            let mut kept = Vec::new();
            let result = m.readdir(ctx, ino, from, plus, &mut held, |line| {
                let room = reply.take(line);
                any |= room;
                if room && !line.ttl.is_zero() {
                    let name = std::mem::take(&mut line.name).into_owned();
                    kept.push((line.attr.covered, line.ttl, name, line.attr.ino));
                }
                room
            });
            match result {
                Err(e) if !any => Err(e),
                _ => Ok((held, kept)),
            }
        };
        self.run(req, list, move |result| {
            // The request has run: no other thread holds the reply any more.
            let Some(reply) = Arc::into_inner(reply) else {
                return;
            };
            let reply = reply.into_inner().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok((held, kept)) => {
                    reply.done();
                    held.replied(kept.iter().flat_map(|(covered, ttl, name, entry)| {
                        [
                            (covered.entry, *ttl, Kept::Entry(ino, name)),
                            (covered.attributes, *ttl, Kept::Attributes(*entry)),
                        ]
                    }));
                }
                Err(e) => reply.failed(errno(&e)),
            }
        });
    }
}

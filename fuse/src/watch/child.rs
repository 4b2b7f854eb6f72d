//! The process that replays: starting it, giving it orders, and ending it.
//!
//! 1. It runs this program again, so it has no descriptor of this process but its two pipes, and ends with the thread
//!    that started it.
//! 2. An order is written whole, then its answer is awaited. If the process has died, both end with an error.

use super::replayer::{self, Order};
use crate::fs::known::inodes::ROOT;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::views::mounted::Mounted;
use crate::views::replays::Act;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

/// The process that replays.
pub(super) struct Replayer {
    mounted: Arc<Mounted>,
    child: Child,
    orders: ChildStdin,
    answers: ChildStdout,
}

impl Replayer {
    /// Start the process, and make sure that its requests are recognized.
    pub(super) fn start(mounted: &Arc<Mounted>, mountpoint: &Path, device: u64) -> io::Result<Replayer> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(replayer::NAME)
            .arg(mountpoint)
            .arg(device.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        };
        mounted.replays().come_from(child.id());
        let mut replayer = Replayer {
            mounted: mounted.clone(),
            child,
            orders,
            answers,
        };
        let name = format!(".persist.{}.hello", std::process::id());
        match replayer.replay(ROOT, &[], name.as_bytes(), Act::Hello) {
            Ok(()) => Ok(replayer),
            Err(e) => Err(io::Error::new(
                e.kind(),
                format!("requests of the process that replays changes are not recognized: {e}"),
            )),
        }
    }

    /// Replay one change of the directory with this inode and path.
    pub(super) fn replay(&mut self, dir: u64, path: &[Vec<u8>], name: &[u8], act: Act) -> io::Result<()> {
        let order = match act {
            Act::Create(NodeKind::File) => Order::CreateFile,
            Act::Create(NodeKind::Dir) => Order::CreateDir,
            Act::Create(NodeKind::Link) => Order::CreateLink,
            Act::Remove(NodeKind::Dir, _) => Order::RemoveDir,
            Act::Remove(..) => Order::RemoveFile,
            Act::Modify(_) => Order::Modify,
            Act::Metadata => Order::Metadata,
            Act::Vanish(_) | Act::Hello => Order::Look,
        };
        self.mounted.replays().expect(dir, name, act);
        let done = self.order(order, &path.join(&b'/'), name);
        self.mounted.replays().end();
        match done? {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn order(&mut self, order: Order, path: &[u8], name: &[u8]) -> io::Result<i32> {
        self.orders.write_all(&replayer::encode(order, path, name))?;
        let mut answer = [0; 4];
        self.answers.read_exact(&mut answer)?;
        Ok(i32::from_le_bytes(answer))
    }

    /// Return whether the process has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        // Its number is not given to another process before this.
        self.mounted.replays().come_from(0);
        let ended = !matches!(self.child.try_wait(), Ok(None));
        if !ended {
            self.mounted.replays().come_from(self.child.id());
        }
        ended
    }
}

impl Drop for Replayer {
    fn drop(&mut self) {
        self.mounted.replays().come_from(0);
        // Neither fails for a child that was not awaited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

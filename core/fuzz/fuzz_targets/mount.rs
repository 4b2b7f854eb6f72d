//! The mount's filesystem without a kernel: the logical pages of its store hold anything, and no checksum tells.
#![no_main]

#[path = "../input.rs"]
mod input;
#[path = "../../tests/shapes/mod.rs"]
mod shapes;

// The program's own files. What only the rest of it uses is not used here.
#[allow(dead_code)]
#[path = "../../../fuse/src/fs/mod.rs"]
mod fs;
#[allow(dead_code)]
#[path = "../../../fuse/src/kernel/mod.rs"]
mod kernel;

use fs::context::{Config, Ctx};
use fs::known::leases::Held;
use fs::tree::filesystem::Fs;
use fs::tree::metadata::attributes::{Changes, NodeKind};
use libfuzzer_sys::fuzz_target;
use persist_core::store::{Options, Store};
use std::path::PathBuf;
use std::time::Duration;

/// Lines of directories that are read at most: a damaged store can hold more than its file has room for.
const MOST: usize = 3000;
/// Directories in directories: what one costs grows with those above it.
const DEPTH: usize = 50;
const CTX: Ctx = Ctx {
    tid: 0,
    user: None,
    may_wait: true,
};

fuzz_target!(|data: &[u8]| {
    let Some(file) = input::Store::of(data, true) else {
        return;
    };
    let Ok(store) = Store::open(&file.path, &Options::default()) else {
        return;
    };
    let config = Config {
        exact: data.len() % 2 == 0,
        infer: data.len() % 3 == 0,
        lockwait: Duration::from_secs(1),
        uid: 0,
        gid: 0,
        umask: 0,
        mountpoint: PathBuf::from("/mnt"),
    };
    let fs = Fs::new(store, config);
    let Ok(root) = fs.enter_root(&CTX) else {
        fs.shutdown();
        return;
    };
    let (mut dirs, mut all, mut left) = (vec![(root.ino, 0)], Vec::new(), MOST);
    while let Some((dir, depth)) = dirs.pop() {
        let _ = fs.opendir(&CTX, dir);
        let mut next = 2;
        while left > 0 {
            let mut lines: Vec<(u64, Vec<u8>)> = Vec::new();
            let listed = fs.readdir(&CTX, dir, next, true, &mut Held::none(), |line| {
                lines.push((line.next, line.name.to_vec()));
                lines.len() < 100
            });
            // The last one had no room.
            if lines.len() == 100 {
                lines.pop();
            }
            let Some((last, _)) = lines.last() else { break };
            assert!(*last > next, "a listing that does not move on");
            next = *last;
            left = left.saturating_sub(lines.len());
            for (_, name) in lines {
                let Ok(Ok(attr)) = fs.lookup(&CTX, dir, &name, &mut Held::none()) else {
                    continue;
                };
                look(&fs, attr.ino);
                if attr.kind == NodeKind::Dir && depth < DEPTH {
                    dirs.push((attr.ino, depth + 1));
                }
                all.push((dir, name, attr.ino));
            }
            if listed.is_err() {
                break;
            }
        }
    }
    for (n, (dir, name, ino)) in all.iter().enumerate().take(200) {
        change(&fs, n, *dir, name, *ino, root.ino);
    }
    fs.tidy();
    let _ = fs.sync();
    for (_, _, ino) in all {
        fs.forget(ino, 1);
    }
    fs.shutdown();
});

fn look(fs: &Fs, ino: u64) {
    let _ = fs.getattr(&CTX, ino, None, &mut Held::none());
    let _ = fs.readlink(&CTX, ino);
    if let Ok(names) = fs.listxattr(&CTX, ino) {
        for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
            let _ = fs.getxattr(&CTX, ino, name);
        }
    }
    if let Ok(fh) = fs.open(&CTX, ino, libc::O_RDONLY) {
        let mut offset = 0;
        while let Ok(bytes) = fs.read_file(&CTX, fh, offset, 1 << 17) {
            if bytes.is_empty() || offset > 8 << 20 {
                break;
            }
            offset += bytes.len() as u64;
        }
        let _ = fs.release(&CTX, fh);
    }
}

fn change(fs: &Fs, n: usize, dir: u64, name: &[u8], ino: u64, root: u64) {
    match n % 8 {
        0 => {
            if let Ok((_, fh)) = fs.create(&CTX, dir, b"new", 0o644, libc::O_WRONLY, &mut Held::none()) {
                let _ = fs.write_file(&CTX, (fh, None), (0, false), b"some text that needs a segment");
                let _ = fs.release(&CTX, fh);
            }
        }
        1 => {
            let _ = fs.mkdir(&CTX, dir, b"dir", 0o755);
        }
        2 => {
            let _ = fs.unlink(&CTX, dir, name);
            let _ = fs.rmdir(&CTX, dir, name);
        }
        3 => {
            let _ = fs.rename(&CTX, (dir, name), (root, b"moved"), 0, &mut Held::none());
        }
        4 => {
            let _ = fs.symlink(&CTX, dir, b"link", b"../dir");
        }
        5 => {
            let kinds: [&[u8]; 5] = [b"list", b"dict", b"object", b"int", b"bytes"];
            let _ = fs.setxattr(&CTX, ino, b"user.persist.type", kinds[n / 8 % 5], 0);
            let _ = fs.setxattr(&CTX, ino, b"user.persist.class", b"os:system", 0);
        }
        6 => {
            let changes = Changes {
                size: Some(3),
                ..Changes::default()
            };
            let _ = fs.setattr(&CTX, ino, None, &changes, &mut Held::none());
        }
        _ => {
            if let Ok(fh) = fs.open(&CTX, ino, libc::O_RDWR) {
                let _ = fs.write_file(&CTX, (fh, None), (2, false), b"7");
                let _ = fs.release(&CTX, fh);
            }
        }
    }
}

//! What is mounted, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The type of a persist mount, as the kernel shows it.
pub(crate) const KIND: &str = "fuse.persist";

/// A mounted filesystem.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The number of its device, as `stat` shows it.
    pub(crate) device: u64,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// Its type.
    pub(crate) kind: String,
    /// What is mounted; the store of a persist mount.
    pub(crate) source: PathBuf,
}

/// All mounts of this process's namespace, in the order in which they were made.
pub(crate) fn all() -> io::Result<Vec<Mount>> {
    let text = fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

/// The persist mount at a place; the topmost if there are several.
pub(crate) fn at(place: &Path) -> io::Result<Option<Mount>> {
    let found = all()?.into_iter().rfind(|m| m.point == place);
    Ok(found.filter(|m| m.kind == KIND))
}

/// The mount of a store to which a directory belongs, if it belongs to one.
pub(crate) fn holding(store: &Path, directory: &fs::Metadata) -> io::Result<Option<Mount>> {
    let device = directory.dev();
    let found = all()?.into_iter().rfind(|m| m.device == device && m.kind == KIND);
    Ok(found.filter(|m| is_same_file(&m.source, store)))
}

/// True if two paths are of one file.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino()));
    a == b || matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|b| *b == b' ');
    let device = std::str::from_utf8(words.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let point = unescaped(words.nth(1)?);
    let mut kind = words.skip_while(|word| *word != b"-").skip(1);
    Some(Mount {
        device: libc::makedev(major.parse().ok()?, minor.parse().ok()?),
        point,
        kind: String::from_utf8_lossy(kind.next()?).into_owned(),
        source: unescaped(kind.next()?),
    })
}

/// The kernel writes blanks, line ends and backslashes as three octal digits.
fn unescaped(word: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let byte = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed() {
        let line = br"36 35 0:45 / /srv/a\040b rw,nosuid shared:1 master:2 - fuse.persist /srv/a\134.store rw,user_id=0";
        let mount = parse(line);
        assert_eq!(
            mount,
            Some(Mount {
                device: libc::makedev(0, 45),
                point: "/srv/a b".into(),
                kind: "fuse.persist".into(),
                source: r"/srv/a\.store".into(),
            })
        );
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 x:45 / /srv rw - a b c"), None);
        assert_eq!(unescaped(br"a\04"), PathBuf::from(r"a\04"));
    }

    #[test]
    fn this_machine_has_mounts() {
        assert!(all().is_ok_and(|all| all.iter().any(|m| m.point == Path::new("/proc"))));
    }
}

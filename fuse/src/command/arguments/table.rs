//! The one table of the mount options (`-o`): names, values, defaults and explanations. The parser (`options`),
//! `--help`, the manual page and README use it.

use crate::command::arguments::settings::Options;
use crate::kernel::sys;
use nix::mount::MsFlags;
use persist_core::store::Durability;
use std::time::Duration;

/// A mount option.
pub(crate) struct MountOption {
    /// Its name.
    pub(crate) name: &'static str,
    /// The form of its value; empty if it takes none.
    pub(crate) value: &'static str,
    /// The default.
    pub(crate) default: &'static str,
    /// The explanation.
    pub(crate) help: &'static str,
    /// How it is applied.
    pub(crate) set: Set,
}

/// How an option is applied.
pub(crate) enum Set {
    /// It takes no value.
    Flag(fn(&mut Options)),
    /// It takes a value. The error describes what is wrong with it.
    Value(fn(&mut Options, &str) -> Result<(), String>),
}

impl MountOption {
    /// The option as it is written: `lockwait=SECONDS`.
    pub(crate) fn form(&self) -> String {
        match self.value {
            "" => self.name.to_owned(),
            value => format!("{}={value}", self.name),
        }
    }
}

/// The options of this mount.
pub(crate) const OPTIONS: [MountOption; 16] = [
    MountOption {
        name: "exact",
        value: "",
        default: "off",
        help: "str files are exactly the text: no newline is added or removed",
        set: Set::Flag(|o| o.exact = true),
    },
    MountOption {
        name: "infer",
        value: "",
        default: "off",
        help: "new files that are JSON scalars become int, float, bool or None",
        set: Set::Flag(|o| o.infer = true),
    },
    MountOption {
        name: "lockwait",
        value: "SECONDS",
        default: "5",
        help: "how long a write to a locked entry waits before it fails with EAGAIN",
        set: Set::Value(|o, text| {
            o.lockwait = seconds(text)?;
            Ok(())
        }),
    },
    MountOption {
        name: "durability",
        value: "commit|checkpoint|none",
        default: "checkpoint",
        help: "what a completed change survives",
        set: Set::Value(|o, text| {
            o.durability = match text {
                "commit" => Durability::Commit,
                "checkpoint" => Durability::Checkpoint,
                "none" => Durability::None,
                _ => return Err("is none of commit, checkpoint and none".into()),
            };
            Ok(())
        }),
    },
    MountOption {
        name: "max_age",
        value: "SECONDS|none",
        default: "1",
        help: "changes older than this survive a power cut",
        set: Set::Value(|o, text| {
            o.max_age = match text {
                "none" => None,
                text => Some(seconds(text)?),
            };
            match o.max_age {
                Some(Duration::ZERO) => {
                    Err("must be above 0 (durability=commit makes each change durable)".into())
                }
                _ => Ok(()),
            }
        }),
    },
    MountOption {
        name: "snapshot",
        value: "NAME",
        default: "",
        help: "mount this snapshot, read-only",
        set: Set::Value(|o, name| {
            o.snapshot = Some(name.to_owned());
            Ok(())
        }),
    },
    MountOption {
        name: "create",
        value: "",
        default: "off",
        help: "make the store if it does not exist; without this option a missing store is an error",
        set: Set::Flag(|o| o.create = true),
    },
    MountOption {
        name: "uid",
        value: "USER",
        default: "the mounting user",
        help: "owner that is shown, a number or a name",
        set: Set::Value(|o, text| {
            o.uid = Some(sys::user_id(text)?);
            Ok(())
        }),
    },
    MountOption {
        name: "gid",
        value: "GROUP",
        default: "the mounting user's",
        help: "group that is shown, a number or a name",
        set: Set::Value(|o, text| {
            o.gid = Some(sys::group_id(text)?);
            Ok(())
        }),
    },
    MountOption {
        name: "umask",
        value: "OCTAL",
        default: "022",
        help: "permission bits that are not shown",
        set: Set::Value(|o, text| {
            let bits = u16::from_str_radix(text, 8).map_err(|_| "is not an octal number")?;
            o.umask = bits & 0o777;
            Ok(())
        }),
    },
    MountOption {
        name: "allow_other",
        value: "",
        default: "off",
        help: "other users may use the mount; implies default_permissions",
        set: Set::Flag(|o| {
            o.allow_other = true;
            o.default_permissions = true;
        }),
    },
    MountOption {
        name: "allow_root",
        value: "",
        default: "off",
        help: "root may use the mount too; not together with allow_other",
        set: Set::Flag(|o| o.allow_root = true),
    },
    MountOption {
        name: "default_permissions",
        value: "",
        default: "off",
        help: "the kernel checks permission bits",
        set: Set::Flag(|o| o.default_permissions = true),
    },
    MountOption {
        name: "sync",
        value: "",
        default: "off",
        help: "as durability=commit: a change survives a power cut when its call, for a new file `close`, returns",
        set: Set::Flag(|o| o.generic("sync", MsFlags::MS_SYNCHRONOUS)),
    },
    MountOption {
        name: "dirsync",
        value: "",
        default: "off",
        help: "the same as sync",
        set: Set::Flag(|o| o.generic("dirsync", MsFlags::MS_DIRSYNC)),
    },
    MountOption {
        name: "remount",
        value: "",
        default: "off",
        help: "change ro, rw, sync and the other options of the kernel of the mount that is there",
        set: Set::Flag(|o| o.remount = true),
    },
];

/// The generic options, which every filesystem has: the name, the flag of mount(2), and whether the name sets or clears
/// the flag.
pub(crate) const GENERIC: [(&str, MsFlags, bool); 18] = [
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("silent", MsFlags::MS_SILENT, true),
];

/// Options for mount(8), systemd and fstab, which a mount ignores. So are names that begin with `x-` or `comment`.
pub(crate) const IGNORED: [&str; 16] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "_netdev",
    "nofail",
    "loud",
    "nolazytime",
    "symfollow",
];

/// Options with a value that are ignored: the name and type are fixed, and the rest is for mount(8).
pub(crate) const IGNORED_VALUES: [&str; 5] = ["fsname", "subtype", "user", "helper", "uhelper"];

/// What the kernel shows of a mount beside the generic options. mount(8) passes it on a remount, and it cannot change.
pub(crate) const SHOWN: [&str; 7] = [
    "user_id", "group_id", "rootmode", "fd", "max_read", "blksize", "seclabel",
];

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "is not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("is not a time: {e}"))
}

/// The generic options in one line.
pub(crate) fn generic_names() -> String {
    GENERIC.map(|(name, ..)| name).join(", ")
}

/// The help text of the options.
pub(crate) fn help() -> String {
    let mut text = String::from("Mount options (-o OPTION,...):\n");
    for option in &OPTIONS {
        text.push_str(&format!("  {}\n          {}", option.form(), option.help));
        if !option.default.is_empty() {
            text.push_str(&format!(" [default: {}]", option.default));
        }
        text.push('\n');
    }
    text.push_str(&format!(
        "  {}\n          as for every filesystem [default: nosuid, nodev]\n  {}, x-..., comment=...\n          for mount(8), \
         fstab and systemd; ignored\n\nUnmount with `umount MOUNTPOINT`, or `fusermount3 -u MOUNTPOINT`.",
        generic_names(),
        IGNORED.join(", ")
    ));
    text
}

//! The one table of the mount options (`-o`): names, values, defaults and explanations. The parser (`options`),
//! `--help`, the manual page and README use it.

use super::settings::Options;
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
pub(crate) const OPTIONS: [MountOption; 12] = [
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
        name: "nocreate",
        value: "",
        default: "off",
        help: "fail if the store does not exist",
        set: Set::Flag(|o| o.create = false),
    },
    MountOption {
        name: "uid",
        value: "N",
        default: "the mounting user",
        help: "owner that is shown",
        set: Set::Value(|o, text| {
            o.uid = Some(number(text)?);
            Ok(())
        }),
    },
    MountOption {
        name: "gid",
        value: "N",
        default: "the mounting user's",
        help: "group that is shown",
        set: Set::Value(|o, text| {
            o.gid = Some(number(text)?);
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
        name: "default_permissions",
        value: "",
        default: "off",
        help: "the kernel checks permission bits",
        set: Set::Flag(|o| o.default_permissions = true),
    },
];

/// The generic options, which every filesystem has: the name, the flag of mount(2), and whether the name sets or clears
/// the flag.
pub(crate) const GENERIC: [(&str, MsFlags, bool); 17] = [
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("silent", MsFlags::MS_SILENT, true),
];

/// Options for other programs, which a mount ignores.
pub(crate) const IGNORED: [&str; 12] = [
    "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", "loud",
    "diratime",
];

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "is not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("is not a time: {e}"))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "is not a number".into())
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
        "  {}\n          as for every filesystem [default: nosuid, nodev]\n\nUnmount with `umount MOUNTPOINT`, or `fusermount3 -u MOUNTPOINT`.",
        generic_names()
    ));
    text
}

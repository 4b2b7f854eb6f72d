//! The command line, as mount(8) passes it: `STORE MOUNTPOINT [-s] [-f] [-n] [-v] [-r] [-w] [-t TYPE] [-o OPTION,...]`.
//! The mount options are in `table`.

use crate::command::arguments::settings::Options;
use crate::command::arguments::table;
use crate::command::arguments::table::GENERIC;
use crate::command::arguments::table::IGNORED;
use crate::command::arguments::table::IGNORED_VALUES;
use crate::command::arguments::table::OPTIONS;
use crate::command::arguments::table::SHOWN;
use crate::command::arguments::table::Set;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use nix::mount::MsFlags;
use std::ffi::OsString;
use std::path::PathBuf;

/// Mount a persist store as a filesystem.
///
/// The command stays in the background until the store is unmounted.
#[derive(Parser)]
#[command(
    name = "mount.persist",
    version,
    no_binary_name = true,
    after_help = table::help()
)]
pub(crate) struct Cli {
    /// The store file. It must exist, unless the mount option `create` is given.
    store: PathBuf,
    /// An empty or other directory, over which the store is shown.
    mountpoint: PathBuf,
    /// Stay in the foreground, and write messages to standard error.
    #[arg(short = 'F', long)]
    foreground: bool,
    /// Check the arguments, the store and the mount point, and do not mount.
    #[arg(short, long)]
    fake: bool,
    /// Report more messages.
    #[arg(short, long)]
    verbose: bool,
    /// Ignore unknown mount options.
    #[arg(short)]
    sloppy: bool,
    /// Do nothing: mount(8) passes it.
    #[arg(short = 'n')]
    no_mtab: bool,
    /// Mount read-only.
    #[arg(short = 'r', overrides_with = "read_write")]
    read_only: bool,
    /// Mount for reading and writing, as is the default.
    #[arg(short = 'w')]
    read_write: bool,
    /// The type of the filesystem: mount(8) passes it, and it is known.
    #[arg(short = 't', value_name = "TYPE")]
    kind: Vec<String>,
    /// Mount options, see below.
    #[arg(short = 'o', value_name = "OPTION,...")]
    options: Vec<String>,
}

/// Read the arguments (without the program's name). `clap` reports `--help` and `--version` as errors too.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, clap::Error> {
    let cli = Cli::try_parse_from(args)?;
    let mut o = Options {
        foreground: cli.foreground,
        fake: cli.fake,
        verbose: cli.verbose,
        sloppy: cli.sloppy,
        ..Options::new(cli.store, cli.mountpoint)
    };
    o.flags.set(MsFlags::MS_RDONLY, cli.read_only);
    let listed = || cli.options.iter().flat_map(|l| l.split(','));
    // What is allowed depends on it, wherever it stands.
    o.remount = listed().any(|option| option == "remount");
    for option in listed().filter(|s| !s.is_empty()) {
        take(&mut o, option).map_err(|(kind, what)| Cli::command().error(kind, what))?;
    }
    if o.allow_root && o.allow_other {
        let what = "the mount options allow_other and allow_root exclude each other";
        return Err(Cli::command().error(ErrorKind::ArgumentConflict, what));
    }
    if o.snapshot.is_some() && !o.flags.contains(MsFlags::MS_RDONLY) {
        // mount(8) passes `rw` by default, so the last option of the two counts.
        o.flags.insert(MsFlags::MS_RDONLY);
        o.generic.push("ro".into());
    }
    o.read_only = o.flags.contains(MsFlags::MS_RDONLY);
    Ok(o)
}

/// Apply one mount option. The error describes what is wrong with it.
fn take(o: &mut Options, option: &str) -> Result<(), (ErrorKind, String)> {
    if let Some((_, flag, on)) = GENERIC.iter().find(|(name, ..)| *name == option) {
        o.flags.set(*flag, *on);
        o.generic.push(option.to_owned());
        return Ok(());
    }
    let (name, value) = option
        .split_once('=')
        .map_or((option, None), |(n, v)| (n, Some(v)));
    if let Some(known) = OPTIONS.iter().find(|known| known.name == name) {
        return match (&known.set, value) {
            (Set::Flag(set), None) => {
                set(o);
                Ok(())
            }
            (Set::Value(set), Some(value)) => set(o, value).map_err(|why| {
                let what = format!("mount option {}: '{value}' {why}", known.form());
                (ErrorKind::ValueValidation, what)
            }),
            (Set::Flag(_), Some(value)) => Err((
                ErrorKind::TooManyValues,
                format!("mount option {name} takes no value, but has '{value}'"),
            )),
            (Set::Value(_), None) => Err((
                ErrorKind::InvalidValue,
                format!("mount option {name} needs a value: {}", known.form()),
            )),
        };
    }
    match (name, value) {
        (_, None) if IGNORED.contains(&name) => {}
        (_, Some(_)) if IGNORED_VALUES.contains(&name) => {}
        _ if name.starts_with("x-") || name.starts_with("X-") || name.starts_with("comment") => {}
        _ if o.remount && SHOWN.contains(&name) => {}
        _ if o.sloppy => {}
        _ => {
            let known = OPTIONS
                .iter()
                .map(|known| known.form())
                .collect::<Vec<_>>()
                .join(", ");
            let what = format!(
                "unknown mount option '{option}'; there are {known}, and the generic {}",
                table::generic_names()
            );
            return Err((ErrorKind::UnknownArgument, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::store::Durability;
    use std::time::Duration;

    fn of(args: &[&str]) -> Result<Options, clap::Error> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn as_mount_8_calls() {
        let o = of(&[
            "a.store",
            "/mnt",
            "-v",
            "-o",
            "rw,noexec,nosuid,nodev,user,_netdev",
            "-t",
            "fuse.persist",
        ]);
        let o = o.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(o.store, PathBuf::from("a.store"));
        assert_eq!(o.mountpoint, PathBuf::from("/mnt"));
        assert!(o.verbose && !o.read_only && !o.foreground);
        assert!(o.flags.contains(MsFlags::MS_NOEXEC));
    }

    #[test]
    fn own_options() {
        let o = of(&[
            "-F",
            "-oexact,infer",
            "s",
            "m",
            "-o",
            "lockwait=0.5,umask=077,uid=5,ro,allow_other,durability=none",
        ]);
        let o = o.unwrap_or_else(|e| panic!("{e}"));
        assert!(o.exact && o.infer && o.foreground && o.read_only && o.allow_other && o.default_permissions);
        assert_eq!(
            (o.lockwait, o.umask, o.uid),
            (Duration::from_millis(500), 0o077, Some(5))
        );
        assert_eq!(o.durability, Durability::None);
        assert_eq!(o.max_age, Some(Duration::from_secs(1)));
        for (text, age) in [("none", None), ("0.25", Some(Duration::from_millis(250)))] {
            let o = of(&["s", "m", "-o", &format!("max_age={text}")]).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(o.max_age, age);
        }
    }

    #[test]
    fn lines_of_fstab_and_remounts() {
        let o = of(&[
            "s",
            "m",
            "-o",
            "rw,noauto,user=joe,nofail,_netdev,x-systemd.automount,X-y=1,comment=z,defaults",
        ]);
        assert!(o.is_ok_and(|o| !o.remount && !o.fake && !o.create));
        let shown =
            "rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other,max_read=131072";
        let o = of(&["s", "m", "-f", "-n", "-o", &format!("{shown},remount,ro")]);
        let o = o.unwrap_or_else(|e| panic!("{e}"));
        assert!(o.remount && o.read_only && o.fake && o.flags.contains(MsFlags::MS_RELATIME));
        let o = of(&["s", "m", "-o", "ro,remount,rw"]).unwrap_or_else(|e| panic!("{e}"));
        assert!(o.remount && !o.read_only);
    }

    #[test]
    fn sync_is_durability_commit() {
        for (options, commit) in [
            ("sync", true),
            ("dirsync", true),
            ("sync,durability=none", true),
            ("sync,async", false),
            ("async", false),
        ] {
            let o = of(&["s", "m", "-o", options]).unwrap_or_else(|e| panic!("{e}"));
            let durability = o.of_store(o.access()).durability;
            assert_eq!(durability == Durability::Commit, commit, "{options}");
        }
    }

    #[test]
    fn owners_have_numbers_or_names() {
        let o = of(&["s", "m", "-o", "uid=root,gid=12"]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((o.uid, o.gid), (Some(0), Some(12)));
    }

    #[test]
    fn a_snapshot_is_read_only() {
        for options in [
            "snapshot=a b",
            "snapshot=a b,rw",
            "rw,snapshot=a b",
            "ro,snapshot=a b",
        ] {
            let o = of(&["s", "m", "-o", options]).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(o.snapshot.as_deref(), Some("a b"));
            assert!(o.read_only && o.flags.contains(MsFlags::MS_RDONLY));
            assert_eq!(o.generic.last().map(String::as_str), Some("ro"), "{options}");
        }
        assert!(of(&["s", "m", "-o", "snapshot"]).is_err());
    }

    #[test]
    fn mistakes() {
        for bad in [
            &["s"][..],
            &["s", "m", "x"],
            &["s", "m", "-o"],
            &["s", "m", "-o", "nonsense"],
            &["s", "m", "-x"],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        for bad in ["lockwait=x", "max_age=x", "max_age=0", "max_age=-1"] {
            assert!(of(&["s", "m", "-o", bad]).is_err(), "{bad}");
        }
        assert!(of(&["s", "m", "-s", "-o", "nonsense"]).is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        let text =
            |options: &str| of(&["s", "m", "-o", options]).map_or_else(|e| e.to_string(), |_| String::new());
        for (options, parts) in [
            (
                "nonsense",
                &["'nonsense'", "lockwait=SECONDS", "exact", "noatime"][..],
            ),
            (
                "ro,colour=red",
                &["'colour=red'", "durability=commit|checkpoint|none"],
            ),
            (
                "lockwait=soon",
                &["lockwait=SECONDS", "'soon'", "number of seconds"],
            ),
            ("lockwait=-1", &["'-1'"]),
            ("lockwait", &["lockwait", "needs a value"]),
            ("exact=1", &["exact", "takes no value"]),
            ("durability=full", &["'full'", "commit, checkpoint and none"]),
            ("umask=9", &["'9'", "octal"]),
            (
                "uid=no such user",
                &["uid=USER", "'no such user'", "neither a number nor"],
            ),
            (
                "gid=no such group",
                &["gid=GROUP", "'no such group'", "neither a number nor"],
            ),
            (
                "allow_root,allow_other",
                &["allow_root", "allow_other", "exclude"],
            ),
            ("noauto=1", &["'noauto=1'"]),
            ("user_id=0", &["'user_id=0'"]),
            ("nocreate", &["'nocreate'", "create"]),
        ] {
            let text = text(options);
            assert!(parts.iter().all(|part| text.contains(part)), "{options}: {text}");
        }
    }

    #[test]
    fn the_defaults_are_what_the_table_says() {
        let usual = of(&["s", "m"]).unwrap_or_else(|e| panic!("{e}"));
        let named: Vec<_> = OPTIONS
            .iter()
            .filter(|o| !o.default.contains(' ') && !o.default.is_empty())
            .collect();
        for option in &named {
            if let Set::Value(_) = option.set {
                let form = format!("{}={}", option.name, option.default);
                assert_eq!(
                    of(&["s", "m", "-o", &form]).unwrap_or_else(|e| panic!("{e}")),
                    usual,
                    "{form}"
                );
            }
        }
        assert!(named.len() > 8);
    }

    #[test]
    fn help_and_version() {
        for (arg, part) in [
            ("--help", "lockwait=SECONDS"),
            ("-h", "lockwait=SECONDS"),
            ("--version", "mount.persist "),
        ] {
            let Err(e) = of(&[arg]) else {
                panic!("{arg} mounts")
            };
            assert!(!e.use_stderr(), "{arg}");
            assert!(e.to_string().contains(part), "{arg}: {e}");
        }
        assert!(of(&["s"]).is_err_and(|e| e.use_stderr()));
    }
}

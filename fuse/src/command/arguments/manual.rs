//! The manual pages and README's table of mount options, made from the command line's definition and from `table`.
//!
//! `PERSIST_WRITE=1 cargo test -p persist-fuse manual` writes both; without it the tests compare.

use crate::command::arguments::options::Cli;
use crate::command::arguments::table;
use crate::command::arguments::table::OPTIONS;
use crate::command::umount;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The markers around README's table.
const BEGIN: &str = "<!-- mount options: generated, see fuse/src/command/arguments/manual.rs -->\n";
const END: &str = "<!-- end of mount options -->\n";

fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Compare a file with its generated text, or write it.
fn agrees(path: &str, wanted: &str) {
    let file = top(path);
    if std::env::var_os("PERSIST_WRITE").is_some() {
        fs::write(&file, wanted).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    let there = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert!(
        there == wanted,
        "{path} is outdated: run PERSIST_WRITE=1 cargo test -p persist-fuse manual"
    );
}

fn options(roff: &mut Roff) {
    roff.control("SH", ["MOUNT OPTIONS"]);
    roff.text([roman("For "), bold("-o"), roman(", separated by commas:")]);
    for option in &OPTIONS {
        roff.control("TP", []);
        let mut form = vec![bold(option.name)];
        if !option.value.is_empty() {
            form.extend([roman("="), italic(option.value)]);
        }
        roff.text(form);
        let default = match option.default {
            "" => String::new(),
            default => format!(" Default: {default}."),
        };
        roff.text([roman(format!("{}.{default}", sentence(option.help)))]);
    }
    roff.control("TP", []);
    roff.text([bold(table::generic_names())]);
    roff.text([roman(
        "As for every filesystem, see mount(8). Default: nosuid, nodev.",
    )]);
    roff.control("TP", []);
    roff.text([bold(format!("{}, x-..., comment=...", table::IGNORED.join(", ")))]);
    roff.text([roman("For mount(8), fstab and systemd. Ignored.")]);
    roff.text([roman(
        "An unknown option is an error, unless -s is given. A remount changes ro, rw, sync and the other options of the \
         kernel; those of this filesystem keep the values of the mount.",
    )]);
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        // A text like "str files ..." begins with the name of a type, which stays in lower case.
        Some(first) if !text.starts_with("str ") => first.to_uppercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// Return the sections that a page begins with.
fn usual_sections(man: &Man) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    Ok(out)
}

fn page() -> io::Result<Vec<u8>> {
    let command = Cli::command();
    let man = Man::new(command)
        .title("MOUNT.PERSIST")
        .section("8")
        .date(" ")
        .source("persist")
        .manual("System administration");
    let mut out = usual_sections(&man)?;
    let mut roff = Roff::new();
    options(&mut roff);
    exit_status(
        &mut roff,
        &[
            ("0", "The store is mounted."),
            ("1", "The command line is wrong, or the user may not do this."),
            ("2", "The system failed."),
            ("32", "The mount failed."),
        ],
    );
    roff.control("SH", ["UNMOUNT"]);
    roff.text([
        bold("umount"),
        roman(" "),
        italic("MOUNTPOINT"),
        roman(", or "),
        bold("fusermount3 -u"),
        roman(" "),
        italic("MOUNTPOINT"),
        roman(
            ". umount calls the helper umount.persist(8), which waits until the store is closed. SIGTERM, SIGINT and \
             SIGHUP end the mount too, and store what open files hold. What cannot be stored when a file is closed is \
             reported with its path and the reason: to standard error in the foreground, otherwise to the system log.",
        ),
    ]);
    roff.control("SH", ["FSTAB"]);
    roff.control("nf", []);
    roff.text([roman(
        "/srv/site.store  /srv/site  persist  noauto,user,nofail  0 0",
    )]);
    roff.control("fi", []);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(
        "SEMANTICS.md, in share/doc/persist of the prefix of the installation: every rule of the filesystem, with \
         examples.",
    )]);
    roff.control("PP", []);
    roff.text([roman(
        "umount.persist(8), persist(1), mount(8), umount(8), fstab(5), fuse(4)",
    )]);
    roff.to_writer(&mut out)?;
    Ok(out)
}

fn exit_status(roff: &mut Roff, codes: &[(&str, &str)]) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, what) in codes {
        roff.control("TP", []);
        roff.text([bold(*code)]);
        roff.text([roman(*what)]);
    }
}

fn umount_page() -> io::Result<Vec<u8>> {
    let man = Man::new(umount::Cli::command())
        .title("UMOUNT.PERSIST")
        .section("8")
        .date(" ")
        .source("persist")
        .manual("System administration");
    let mut out = usual_sections(&man)?;
    let mut roff = Roff::new();
    exit_status(
        &mut roff,
        &[
            ("0", "The store is unmounted."),
            ("1", "The command line is wrong."),
            ("32", "The unmount failed."),
        ],
    );
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("mount.persist(8), persist(1), umount(8)")]);
    roff.to_writer(&mut out)?;
    Ok(out)
}

fn rows() -> String {
    let mut text = String::from("| option | default | meaning |\n| --- | --- | --- |\n");
    for option in &OPTIONS {
        let form = option.form().replace('|', "\\|");
        text.push_str(&format!("| `{form}` | {} | {} |\n", option.default, option.help));
    }
    text.push_str(&format!(
        "| {} | `nosuid`, `nodev` | as for every filesystem |\n",
        table::GENERIC.map(|(name, ..)| format!("`{name}`")).join(", ")
    ));
    text
}

#[test]
fn the_manual_page_is_up_to_date() -> io::Result<()> {
    let page = String::from_utf8(page()?).map_err(io::Error::other)?;
    agrees("fuse/mount.persist.8", &page);
    Ok(())
}

#[test]
fn the_manual_page_of_umount_is_up_to_date() -> io::Result<()> {
    let page = String::from_utf8(umount_page()?).map_err(io::Error::other)?;
    agrees("fuse/umount.persist.8", &page);
    Ok(())
}

#[test]
fn the_table_in_readme_is_up_to_date() -> io::Result<()> {
    let readme = fs::read_to_string(top("README.md"))?;
    let (before, rest) = readme
        .split_once(BEGIN)
        .unwrap_or_else(|| panic!("README.md has no {BEGIN}"));
    let (_, after) = rest
        .split_once(END)
        .unwrap_or_else(|| panic!("README.md has no {END}"));
    agrees("README.md", &format!("{before}{BEGIN}{}{END}{after}", rows()));
    Ok(())
}

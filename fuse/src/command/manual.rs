//! The manual page and README's table of mount options, made from the command line's definition and from `table`.
//!
//! `PERSIST_WRITE=1 cargo test -p persist-fuse manual` writes both; without it the tests compare.

use super::options::Cli;
use super::table::{self, OPTIONS};
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The markers around README's table.
const BEGIN: &str = "<!-- mount options: generated, see fuse/src/command/manual.rs -->\n";
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
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        // A text like "str files ..." begins with the name of a type, which stays in lower case.
        Some(first) if !text.starts_with("str ") => first.to_uppercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

fn page() -> io::Result<Vec<u8>> {
    let command = Cli::command();
    let man = Man::new(command)
        .title("MOUNT.PERSIST")
        .section("8")
        .date(" ")
        .source("persist")
        .manual("System administration");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut roff = Roff::new();
    options(&mut roff);
    roff.control("SH", ["EXIT STATUS"]);
    for (code, what) in [
        ("0", "The store is mounted."),
        ("1", "The command line is wrong."),
        ("2", "The system failed."),
        ("32", "The mount failed."),
    ] {
        roff.control("TP", []);
        roff.text([bold(code)]);
        roff.text([roman(what)]);
    }
    roff.control("SH", ["UNMOUNT"]);
    roff.text([
        bold("umount"),
        roman(" "),
        italic("MOUNTPOINT"),
        roman(", or "),
        bold("fusermount3 -u"),
        roman(" "),
        italic("MOUNTPOINT"),
        roman(". The helper umount.persist waits until the store is closed."),
    ]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("persist(1), mount(8), umount(8), fuse(4)")]);
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

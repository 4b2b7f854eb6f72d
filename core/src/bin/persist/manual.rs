//! The manual page persist(1), made from the command line's definition.
//!
//! `PERSIST_WRITE=1 cargo test -p persist-core --bin persist manual` writes it; without it the test compares.

use super::Cli;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::io;
use std::path::Path;

/// The commands with their arguments, which `Man` only lists by name.
fn commands(roff: &mut Roff, cli: &Command) {
    roff.control("SH", ["COMMANDS"]);
    for command in cli.get_subcommands().filter(|c| !c.is_hide_set()) {
        roff.control("SS", []);
        let mut form = vec![bold(command.get_name())];
        for argument in command.get_positionals() {
            form.extend([roman(" "), italic(argument.to_string())]);
        }
        roff.text(form);
        let about = command.get_long_about().or_else(|| command.get_about());
        roff.text([roman(about.map(ToString::to_string).unwrap_or_default())]);
        for argument in command
            .get_arguments()
            .filter(|a| !a.is_hide_set() && a.get_id() != "help")
        {
            let help = argument.get_long_help().or_else(|| argument.get_help());
            roff.control("TP", []);
            roff.text([bold(argument.to_string())]);
            roff.text([roman(help.map(ToString::to_string).unwrap_or_default())]);
        }
    }
}

fn page() -> io::Result<Vec<u8>> {
    let mut cli = Cli::command();
    cli.build();
    let man = Man::new(cli.clone())
        .title("PERSIST")
        .section("1")
        .date(" ")
        .source("persist")
        .manual("User commands");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut roff = Roff::new();
    commands(&mut roff, &cli);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("mount.persist(8), umount.persist(8)")]);
    roff.to_writer(&mut out)?;
    Ok(out)
}

#[test]
fn the_manual_page_is_up_to_date() -> io::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("persist.1");
    let page = page()?;
    if std::env::var_os("PERSIST_WRITE").is_some() {
        std::fs::write(&file, &page)?;
    }
    let there = std::fs::read(&file)?;
    assert!(
        there == page,
        "core/persist.1 is outdated: run PERSIST_WRITE=1 cargo test -p persist-core --bin persist manual"
    );
    Ok(())
}

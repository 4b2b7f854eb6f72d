//! `persist check`: the result on standard output, progress on standard error if that is a terminal.

use super::Failure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use persist_core::check::{self, Report, Salvaged, Source, Watch, salvage_from};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Findings that are printed; the JSON contains all findings of the report.
const PRINTED: usize = 100;

/// A progress bar for the current part.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Bar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:20} [{bar:40}] {percent:>3}% {eta}");
        Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Watch for Bar {
    fn begin(&mut self, part: &'static str, steps: u64) {
        self.0.reset();
        self.0.set_length(steps);
        self.0.set_message(part);
    }

    fn advance(&mut self, steps: u64) {
        self.0.inc(steps);
    }
}

pub(super) fn check(
    store: &Path,
    repair: Option<&Path>,
    json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, Failure> {
    let (report, salvaged) = match repair {
        None => (check::check(store, &mut Bar::new())?, None),
        Some(new) => {
            let source = Source::exclusive(store)?;
            let report = check::check_file(&source, &mut Bar::new())?;
            let salvaged = salvage_from(&source, new, &mut Bar::new())?;
            (report, Some(salvaged))
        }
    };
    if json {
        let mut all = as_json(&report);
        if let Some(salvaged) = &salvaged {
            all["salvaged"] = salvaged_as_json(salvaged);
        }
        writeln!(out, "{all:#}")?;
    } else {
        print(&report, out)?;
        if let Some(salvaged) = &salvaged {
            print_salvaged(salvaged, out)?;
        }
    }
    let lost = salvaged.is_some_and(|s| s.lost > 0);
    Ok(ExitCode::from(u8::from(lost || !report.is_sound())))
}

fn print_salvaged(s: &Salvaged, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(
        out,
        "salvaged from checkpoint {}: {} containers with {} entries",
        s.checkpoint, s.containers, s.entries
    )?;
    if s.found > 0 {
        writeln!(out, "{} of them in lost+found: the way to them is lost", s.found)?;
    }
    for loss in &s.losses {
        writeln!(
            out,
            "lost: {}: {}",
            loss.path.as_deref().unwrap_or_default(),
            loss.what
        )?;
    }
    let more = s.lost - s.losses.len() as u64;
    if more > 0 {
        writeln!(out, "and {more} more losses")?;
    }
    if s.lost == 0 {
        writeln!(out, "nothing is lost")?;
    }
    Ok(())
}

fn salvaged_as_json(s: &Salvaged) -> serde_json::Value {
    let losses: Vec<_> = s
        .losses
        .iter()
        .map(|l| json!({"path": l.path, "what": l.what}))
        .collect();
    json!({
        "checkpoint": s.checkpoint,
        "containers": s.containers,
        "entries": s.entries,
        "found": s.found,
        "lost": s.lost,
        "losses": losses,
    })
}

fn print(report: &Report, out: &mut impl Write) -> Result<(), Failure> {
    for f in report.findings.iter().take(PRINTED) {
        write!(out, "{}: {}", f.part, f.what)?;
        if let Some(at) = f.at {
            let of_file = matches!(f.part, "file" | "pages");
            write!(
                out,
                ", at {} {at:#x}",
                if of_file { "file offset" } else { "address" }
            )?;
        }
        match &f.path {
            Some(path) => writeln!(out, ", in {path}")?,
            None => writeln!(out)?,
        }
    }
    let shown = report.findings.len().min(PRINTED) as u64;
    if report.total > shown {
        writeln!(out, "and {} more", report.total - shown)?;
    }
    for (name, figure) in figures(report) {
        writeln!(out, "{name:<20} {figure}")?;
    }
    match report.total {
        0 => writeln!(out, "sound")?,
        1 => writeln!(out, "1 finding: the store is damaged")?,
        n => writeln!(out, "{n} findings: the store is damaged")?,
    }
    if let Some(kept) = &report.kept {
        writeln!(
            out,
            "the state before what dead processes left is kept as the snapshot {kept}: `persist backup --at {kept} \
             STORE COPY` makes a store of it"
        )?;
    }
    Ok(())
}

fn figures(report: &Report) -> [(&'static str, u64); 8] {
    [
        ("checkpoint", report.checkpoint),
        ("file pages", report.file_pages),
        ("pages in use", report.pages),
        ("free pages", report.free_pages),
        ("segments", report.segments),
        ("containers", report.containers),
        ("references", report.references),
        ("classes", report.classes),
    ]
}

fn as_json(report: &Report) -> serde_json::Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|f| json!({"part": f.part, "what": f.what, "at": f.at, "path": f.path}))
        .collect();
    let figures: serde_json::Map<_, _> = figures(report)
        .into_iter()
        .map(|(name, figure)| (name.replace(' ', "_"), figure.into()))
        .collect();
    json!({
        "sound": report.is_sound(),
        "total": report.total,
        "kept": report.kept,
        "findings": findings,
        "figures": figures,
    })
}

//! The report of a check, and the interface for its progress.

use crate::error::Error;

/// The most findings that are listed; more are only counted.
const KEPT: usize = 1000;

/// A defect that the check found, or what a salvage could not read.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The part of the store: `file`, `pages`, `heap`, `objects`, `references`, `classes`.
    pub part: &'static str,
    /// The defect.
    pub what: String,
    /// Its address (an offset in the file, for the parts `file` and `pages`).
    pub at: Option<u64>,
    /// The path from the root to the container concerned, if there is one and it is known.
    pub path: Option<String>,
}

/// The result of a check.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The defects, up to a limit.
    pub findings: Vec<Finding>,
    /// The total number of findings.
    pub total: u64,
    /// The checkpoint that was checked.
    pub checkpoint: u64,
    /// Pages of the file.
    pub file_pages: u64,
    /// Pages in use.
    pub pages: u64,
    /// Pages that are free for reuse.
    pub free_pages: u64,
    /// Segments of the heap.
    pub segments: u64,
    /// Dicts, lists and objects.
    pub containers: u64,
    /// References to them from containers.
    pub references: u64,
    /// Known classes.
    pub classes: u64,
    /// For a damaged store: the snapshot that keeps the state from before a recovery from dead processes.
    pub kept: Option<String>,
}

impl Report {
    /// Return true if the check found no defect.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.total == 0
    }

    pub(super) fn find(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        at: Option<u64>,
        path: Option<String>,
    ) {
        self.total += 1;
        if self.findings.len() < KEPT {
            self.findings.push(Finding {
                part,
                what: what.into(),
                at,
                path,
            });
        }
    }

    /// Report an error as a finding.
    pub(super) fn fault(&mut self, part: &'static str, e: &Error, path: Option<String>) {
        match e {
            Error::Corrupt { what, at } | Error::Damaged { what, at, .. } => {
                self.find(part, *what, Some(*at), path)
            }
            e => self.find(part, e.to_string(), None, path),
        }
    }
}

/// A receiver for the progress of a check or a salvage.
pub trait Watch {
    /// Begin a part with this number of steps.
    fn begin(&mut self, part: &'static str, steps: u64);
    /// Report that this number of steps was made.
    fn advance(&mut self, steps: u64);
}

/// A receiver that ignores the progress.
impl Watch for () {
    fn begin(&mut self, _: &'static str, _: u64) {}
    fn advance(&mut self, _: u64) {}
}

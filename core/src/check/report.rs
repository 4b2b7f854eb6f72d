//! What a check reports, and how it tells how far it has got.

use crate::error::Error;

/// Findings that are kept; more are counted.
const KEPT: usize = 1000;

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The part of the store: `file`, `pages`, `heap`, `objects`, `references`, `classes`.
    pub part: &'static str,
    /// What is wrong.
    pub what: String,
    /// The address where (an offset in the file, for the parts `file` and `pages`).
    pub at: Option<u64>,
    /// The way from the root to the container concerned, where one is and it is known.
    pub path: Option<String>,
}

/// What a check saw.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// What is wrong: the first so many.
    pub findings: Vec<Finding>,
    /// How many findings there were.
    pub total: u64,
    /// The checkpoint that was checked.
    pub checkpoint: u64,
    /// Pages of the file.
    pub file_pages: u64,
    /// Pages that hold something.
    pub pages: u64,
    /// Pages that are free to be used again.
    pub free_pages: u64,
    /// Segments of the heap.
    pub segments: u64,
    /// Dicts, lists and objects.
    pub containers: u64,
    /// References to them from containers.
    pub references: u64,
    /// Classes that are known.
    pub classes: u64,
    /// Of a damaged store: the snapshot that keeps the state before what dead processes left.
    pub kept: Option<String>,
}

impl Report {
    /// Nothing is wrong.
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

    /// A finding from an error that was met.
    pub(super) fn met(&mut self, part: &'static str, e: &Error, path: Option<String>) {
        match e {
            Error::Corrupt { what, at } | Error::Damaged { what, at, .. } => {
                self.find(part, *what, Some(*at), path)
            }
            e => self.find(part, e.to_string(), None, path),
        }
    }
}

/// Told how far a check or a salvage has got.
pub trait Watch {
    /// A part begins, of so many steps.
    fn begin(&mut self, part: &'static str, steps: u64);
    /// So many more steps were made.
    fn advance(&mut self, steps: u64);
}

/// For those who do not want to know.
impl Watch for () {
    fn begin(&mut self, _: &'static str, _: u64) {}
    fn advance(&mut self, _: u64) {}
}

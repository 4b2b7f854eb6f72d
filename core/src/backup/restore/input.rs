//! The input of a restore: files and streams, which may end anywhere.

use crate::error::{Error, Result};
use crate::page::format::keep::{Kept, keep};
use crate::raw::files::place::read_past_cache;
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::path::{Path, PathBuf};

/// Bytes of one read.
pub(super) const PIECE: usize = 1 << 20;

/// A backup to restore from.
pub struct Input<'a> {
    pub(super) name: PathBuf,
    stream: Option<Box<dyn Read + 'a>>,
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Input").field(&self.name).finish()
    }
}

impl<'a> Input<'a> {
    /// Return an input that reads a file.
    pub fn file(path: impl AsRef<Path>) -> Input<'a> {
        Input {
            name: path.as_ref().to_owned(),
            stream: None,
        }
    }

    /// Return an input that reads a stream, such as a pipe. The name is for messages.
    pub fn stream(name: impl AsRef<Path>, stream: impl Read + 'a) -> Input<'a> {
        Input {
            name: name.as_ref().to_owned(),
            stream: Some(Box::new(stream)),
        }
    }

    pub(super) fn open(self) -> Result<Reader<'a>> {
        let name = self.name;
        let from = match self.stream {
            Some(stream) => From::Stream(stream),
            None => {
                let cannot = |e| Error::io(format!("cannot open {}", name.display()), e);
                let is_file = std::fs::metadata(&name).map_err(cannot)?.is_file();
                if is_file {
                    // A full backup is a store, which another process may have opened; a store in use
                    // changes.
                    From::File(keep(&name)?, 0)
                } else {
                    From::Stream(Box::new(File::open(&name).map_err(cannot)?))
                }
            }
        };
        Ok(Reader { name, from })
    }
}

pub(super) enum From<'a> {
    /// A file, and the number of bytes read from it.
    File(Kept, u64),
    Stream(Box<dyn Read + 'a>),
}

/// A backup that is being read.
pub(super) struct Reader<'a> {
    name: PathBuf,
    pub(super) from: From<'a>,
}

impl Reader<'_> {
    pub(super) fn bad(&self, why: impl Into<String>) -> Error {
        Error::BadBackup {
            path: self.name.clone(),
            why: why.into(),
        }
    }

    fn some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.from {
            From::Stream(stream) => stream.read(bytes),
            From::File(file, at) => {
                let n = read_past_cache(&file.file, &mut [IoSliceMut::new(bytes)], *at)? as usize;
                *at += n as u64;
                Ok(n)
            }
        }
    }

    /// Fill `bytes` up to the end of the input. Return the number of bytes read.
    pub(super) fn up_to(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut n = 0;
        while n < bytes.len() {
            match self.some(&mut bytes[n..]) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(format!("cannot read {}", self.name.display()), e)),
            }
        }
        Ok(n)
    }

    pub(super) fn exactly(&mut self, bytes: &mut [u8]) -> Result<()> {
        if self.up_to(bytes)? < bytes.len() {
            return Err(self.bad("it is cut short: the backup was not finished, or not copied as a whole"));
        }
        Ok(())
    }

    pub(super) fn ends(&mut self) -> Result<()> {
        if self.up_to(&mut [0])? != 0 {
            return Err(self.bad("something follows its end: one backup a stream"));
        }
        Ok(())
    }

    /// Return the error for damage in the pages of this backup.
    pub(super) fn damaged(&self, e: Error) -> Error {
        match e {
            Error::Corrupt { what, at } => self.bad(format!("it is damaged: {what} {at:#x}")),
            e => e,
        }
    }
}

/// Reads small pieces of a backup through a large buffer.
pub(super) struct Buffered<'r, 'a> {
    pub(super) from: &'r mut Reader<'a>,
    bytes: Vec<u8>,
    at: usize,
}

impl<'r, 'a> Buffered<'r, 'a> {
    pub(super) fn new(from: &'r mut Reader<'a>) -> Buffered<'r, 'a> {
        Buffered {
            from,
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// Read more, if the buffer is empty.
    fn fill(&mut self) -> Result<()> {
        if self.at == self.bytes.len() {
            self.bytes.resize(PIECE, 0);
            let n = self.from.up_to(&mut self.bytes)?;
            self.bytes.truncate(n);
            self.at = 0;
        }
        Ok(())
    }

    pub(super) fn exactly(&mut self, to: &mut [u8]) -> Result<()> {
        let mut n = 0;
        while n < to.len() {
            self.fill()?;
            let some = (self.bytes.len() - self.at).min(to.len() - n);
            if some == 0 {
                return self.from.exactly(&mut to[n..]);
            }
            to[n..n + some].copy_from_slice(&self.bytes[self.at..self.at + some]);
            self.at += some;
            n += some;
        }
        Ok(())
    }

    pub(super) fn ends(&mut self) -> Result<()> {
        if self.at < self.bytes.len() {
            return Err(self.from.bad("something follows its end: one backup a stream"));
        }
        self.from.ends()
    }
}

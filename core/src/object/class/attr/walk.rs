//! Walk an object's attributes, for the checker and for salvage.

use super::Head;
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::class::ClassRecord;
use crate::object::pieces::{Fresh, Lost, Out, Piece};
use crate::object::{dict, key};
use crate::page::access::Pages;

/// Check an object's attributes, and call `segment` with the segments of its body (without keys); see
/// `dict::verify`.
pub fn verify<P: Pages>(
    p: &P,
    h: Addr,
    limit: u64,
    segment: &mut dyn FnMut(Addr, usize) -> Result<()>,
) -> Result<()> {
    let head = Head::read(p, h)?;
    let rec = ClassRecord::read(p, head.class)?;
    if !head.shared {
        return dict::verify(p, h, limit, segment);
    }
    if head.words == 0 {
        return if head.body.is_null() {
            Ok(())
        } else {
            Err(Error::corrupt("an empty object with a body", h))
        };
    }
    segment(head.body, head.words * 8)?;
    match head.present(p)?.next_back() {
        Some((i, _)) if i < rec.keys => Ok(()),
        Some(_) => Err(Error::corrupt("an attribute that its class does not know", h)),
        None => Err(Error::corrupt("an object body without attributes", h)),
    }
}

/// See `object::salvage::content`.
pub fn salvage<P: Pages>(p: &P, h: Addr, fresh: Fresh<'_>, out: Out<'_>) -> Result<()> {
    let head = match Head::read(p, h) {
        Ok(head) if head.shared => head,
        Ok(_) => return dict::salvage(p, h, fresh, out),
        Err(e) => return out(Piece::Lost(Lost::of(&e, h))),
    };
    if head.words == 0 {
        return Ok(());
    }
    if !fresh(head.body) {
        return out(Piece::Lost(Lost::twice(head.body)));
    }
    let present = match head.present(p) {
        Ok(present) => present,
        Err(e) => return out(Piece::Lost(Lost::of(&e, head.body))),
    };
    for (i, value) in present {
        let key = ClassRecord::read(p, head.class).and_then(|rec| rec.key(p, i));
        match key.and_then(|key| key::hash_word(p, key).map(|_| key)) {
            Ok(key) => out(Piece::Entry(key, value))?,
            Err(e) => out(Piece::Lost(Lost::of(&e, head.class)))?,
        }
    }
    Ok(())
}

//! Restoring: the stream of a full backup, and that of an incremental one, hold anything; checksums right or not.
#![no_main]

#[path = "../backups.rs"]
mod backups;
#[path = "../input.rs"]
mod input;
#[path = "../../tests/shapes/mod.rs"]
mod shapes;

use libfuzzer_sys::fuzz_target;
use persist_core::backup::{Input, Restoring, restore};
use persist_core::check::check;

fuzz_target!(|data: &[u8]| {
    let Some((full, more)) = backups::of(data) else {
        return;
    };
    let place = input::Store::place();
    let mut inputs = vec![Input::stream("full", &full[..])];
    inputs.extend(more.as_ref().map(|more| Input::stream("more", &more[..])));
    let restoring = Restoring::default();
    if restore(inputs, &place.path, &restoring, &mut ()).is_ok() {
        let report = check(&place.path, &mut ()).unwrap();
        assert_eq!(report.findings, [], "what was restored is not sound");
    } else {
        assert!(!place.path.exists(), "a store that was not restored");
    }
});

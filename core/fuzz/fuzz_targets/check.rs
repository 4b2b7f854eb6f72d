//! Checking and salvaging: the logical pages hold anything, and no checksum tells.
#![no_main]

#[path = "../input.rs"]
mod input;
#[path = "../../tests/shapes/mod.rs"]
mod shapes;

use libfuzzer_sys::fuzz_target;
use persist_core::check::{Source, check, check_file, salvage_from};

fuzz_target!(|data: &[u8]| {
    let Some(file) = input::Store::of(data, true) else {
        return;
    };
    let new = file
        .path
        .with_file_name(format!("{}-new", file.path.file_name().unwrap().display()));
    let source = Source::exclusive(&file.path).unwrap();
    let _ = check_file(&source, &mut ());
    if salvage_from(&source, &new, &mut ()).is_ok() {
        assert_eq!(
            check(&new, &mut ()).unwrap().findings,
            [],
            "what was salvaged is not sound"
        );
    }
});

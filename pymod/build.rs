//! Passes PyO3's view of the interpreter (free-threaded or not) on to this crate.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}

//! Passes PyO3's knowledge of the interpreter on, as `cfg`s.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}

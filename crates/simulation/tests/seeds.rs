//! A few seeds in every run of the tests; `./dev verify simulation` runs fresh ones for an hour.

use std::process::Command;

#[test]
fn a_region_that_is_troubled_comes_to_rest_and_nothing_is_wrong() {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(["--seeds", "1-4", "--hosts", "4", "--minutes", "3", "--jobs", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("4 runs, 0 with findings"), "{text}");
}

//! One seed is one run; another seed is another; a planted bug is found and its story told.

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).output().unwrap()
}

fn trace(seed: &str) -> String {
    let output = simulate(&["--seed", seed, "--hosts", "4", "--minutes", "3"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "seed {seed}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let trace = text.split("trace ").nth(1).and_then(|rest| rest.split(':').next());
    trace.unwrap_or_else(|| panic!("no trace in {text}")).to_owned()
}

#[test]
fn the_same_seed_makes_the_same_run_and_another_seed_another() {
    let first = trace("1");
    assert_eq!(first, trace("1"), "a run is not the same again");
    assert_ne!(first, trace("2"));
}

#[test]
fn a_planted_bug_is_found_and_what_happened_is_told() {
    let output = simulate(&[
        "--seeds",
        "1-50",
        "--hosts",
        "4",
        "--minutes",
        "5",
        "--bug",
        "double_release_quota",
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("quota: project"), "{text}");
    assert!(text.contains("What happened to"), "{text}");
}

#[test]
fn a_bug_that_is_not_planted_is_refused() {
    let output = simulate(&["--seed", "1", "--bug", "no_such_bug"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no planted bug"));
}

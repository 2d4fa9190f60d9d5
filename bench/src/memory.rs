//! Proportional memory (PSS) of the cloud's processes, and what machine this is.

use std::path::Path;

/// Processor, cores and memory, in one line.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0);
    format!(
        "{model}, {cores} cores, {} MiB, load {}",
        kib / 1024,
        read("/proc/loadavg").split(' ').next().unwrap_or("?")
    )
}

/// Prints the PSS of every process of ours whose command line names `state`.
pub fn print(state: &Path) {
    let wanted = state.to_string_lossy().into_owned();
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    println!("\n{:<32} {:>10}", "process", "PSS MiB");
    for entry in processes.flatten() {
        let path = entry.path();
        let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if !command.contains(&wanted) || !command.contains("meridian ") {
            continue;
        }
        let rollup = std::fs::read_to_string(path.join("smaps_rollup")).unwrap_or_default();
        let kib = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse::<f64>().ok());
        if let Some(kib) = kib {
            let words: Vec<&str> =
                command.split(' ').skip(1).take_while(|word| !word.starts_with("--")).collect();
            println!("{:<32} {:>10.1}", words.join(" "), kib / 1024.0);
        }
    }
}

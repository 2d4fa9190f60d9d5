//! Proportional memory (PSS) of a process, and what machine this is.

/// Processor, cores, memory and load, in one line.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kib: u64 = field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0);
    format!("{model}, {cores} cores, {} MiB, load {}", kib / 1024, load())
}

/// The load of the last minute, as the kernel writes it.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// Its share of memory in MiB, with what it shares with others counted in part.
#[allow(clippy::cast_precision_loss)]
pub fn pss_mib(process: u32) -> Option<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    field(&rollup, "Pss:").map(|kib| kib as f64 / 1024.0)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
}

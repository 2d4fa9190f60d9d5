//! The command line: one run, or many in processes of their own.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use simulation::{Options, Outcome};

use crate::system;

#[derive(Parser, Clone)]
#[command(name = "simulate", about = "Runs a region on made-up time, as a seed says")]
struct Cli {
    /// One run of this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs of these seeds, each in a process of its own: `1-200`. `fresh` takes new ones.
    #[arg(long, value_name = "FROM-TO")]
    seeds: Option<String>,
    /// How many hosts.
    #[arg(long, default_value_t = 12)]
    hosts: usize,
    /// For how long, in made-up minutes, the region is used and troubled.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// The same in hours.
    #[arg(long, conflicts_with = "minutes")]
    hours: Option<u64>,
    /// Stop beginning runs after so many real seconds.
    #[arg(long)]
    budget: Option<u64>,
    /// Runs at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Switch a planted bug on: the runs succeed when a seed finds it.
    #[arg(long)]
    bug: Option<String>,
    /// Try every planted bug on the seeds, and print a table for the documentation.
    #[arg(long)]
    table: bool,
    /// Write the lines of the run's trace here.
    #[arg(long, value_name = "FILE")]
    trace: Option<std::path::PathBuf>,
    /// Print one line a run only.
    #[arg(long)]
    brief: bool,
}

/// What a run's process ends with when something is wrong in the region.
const FOUND: u8 = 3;

pub fn main() -> ExitCode {
    let mut cli = Cli::parse();
    cli.minutes = cli.hours.map_or(cli.minutes, |hours| hours * 60);
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("simulate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match (&cli.seed, &cli.seeds, cli.table) {
        (Some(seed), None, false) => one(cli, *seed),
        (None, Some(seeds), false) => many(cli, &range(seeds)?),
        (None, seeds, true) => table(cli, &range(seeds.as_deref().unwrap_or("1-200"))?),
        _ => bail!("one of --seed, --seeds and --table"),
    }
}

fn range(text: &str) -> Result<Vec<u64>> {
    if text == "fresh" {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let first = now.as_secs() % 1_000_000_000 * 1000;
        return Ok((first..first + 100_000).collect());
    }
    let (from, to) = text.split_once('-').context("--seeds is FROM-TO, or fresh")?;
    let (from, to): (u64, u64) = (from.trim().parse()?, to.trim().parse()?);
    Ok((from..=to).collect())
}

/// One run, on a thread of its own: what threads keep for themselves is then new.
fn one(cli: &Cli, seed: u64) -> Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MERIDIAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    // Libraries refuse to guess which cryptography they should use; nothing here is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options {
        bug: cli.bug.clone(),
        ..Options::usual(seed, cli.hosts, Duration::from_secs(cli.minutes * 60))
    };
    let begun = Instant::now();
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
        // First: the runtime draws its own seed, by which `select!` chooses.
        system::begin(seed);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.map_err(anyhow::Error::from)?.block_on(simulation::run(&options))
    })?;
    let outcome = thread.join().map_err(|_| anyhow::anyhow!("the run panicked"))??;
    print(cli, seed, &outcome, begun.elapsed());
    if let Some(path) = &cli.trace {
        std::fs::write(path, outcome.lines.join("\n"))?;
    }
    Ok(if outcome.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

fn print(cli: &Cli, seed: u64, outcome: &Outcome, took: Duration) {
    let (hash, lines) = &outcome.trace;
    let passed = outcome.passed.as_secs();
    println!(
        "seed {seed}: {} hosts, {} h {:02} min in {:.1} s, {} servers, {} changes, {lines} events, \
         trace {hash}: {}",
        cli.hosts,
        passed / 3600,
        passed / 60 % 60,
        took.as_secs_f64(),
        outcome.servers,
        outcome.journal,
        match outcome.findings.as_slice() {
            [] => "nothing is wrong".to_owned(),
            found => format!("{} findings, first: {}", found.len(), found[0]),
        }
    );
    if cli.brief || outcome.findings.is_empty() {
        return;
    }
    for finding in outcome.findings.iter().take(20) {
        println!("  {finding}");
    }
    println!("What happened to {}:", outcome.findings[0].object);
    for line in &outcome.story {
        println!("  {line}");
    }
    println!(
        "Run it again: ./dev simulate --seed {seed} --hosts {} --minutes {}",
        cli.hosts, cli.minutes
    );
}

/// How a run in its own process ended.
struct Ended {
    seed: u64,
    found: bool,
    failed: bool,
    text: String,
}

fn child(cli: &Cli, seed: u64, bug: Option<&str>) -> Result<Ended> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--seed", &seed.to_string(), "--hosts", &cli.hosts.to_string()])
        .args(["--minutes", &cli.minutes.to_string()]);
    if cli.brief {
        command.arg("--brief");
    }
    if let Some(bug) = bug {
        command.args(["--bug", bug]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let code = output.status.code();
    Ok(Ended {
        seed,
        found: code == Some(i32::from(FOUND)),
        failed: !output.status.success() && code != Some(i32::from(FOUND)),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
    })
}

/// Runs seeds, several at once, and hands each end to `each`, which says whether to go on.
fn runs(
    cli: &Cli,
    seeds: &[u64],
    bug: Option<&str>,
    each: impl FnMut(Ended) -> bool + Send,
) -> Result<()> {
    let deadline = cli.budget.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let next = AtomicU64::new(0);
    let each = Mutex::new((each, true));
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..cli.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(seed) = usize::try_from(at).ok().and_then(|at| seeds.get(at)) else {
                        return;
                    };
                    let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    if late || !each.lock().unwrap_or_else(PoisonError::into_inner).1 {
                        return;
                    }
                    match child(cli, *seed, bug) {
                        Ok(ended) => {
                            let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
                            if each.1 && !(each.0)(ended) {
                                each.1 = false;
                            }
                        }
                        Err(error) => {
                            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            return;
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Many seeds: all of them must find nothing, or, with a bug, one of them something.
fn many(cli: &Cli, seeds: &[u64]) -> Result<ExitCode> {
    let (mut count, mut wrong, mut hit) = (0_u64, 0_u64, None);
    runs(cli, seeds, cli.bug.as_deref(), |ended| {
        count += 1;
        print!("{}", ended.text);
        let _ = std::io::stdout().flush();
        wrong += u64::from(ended.found || ended.failed);
        if ended.found {
            hit.get_or_insert(ended.seed);
        }
        // Without a bug the first failure ends it: it is to be looked at.
        !(ended.found || ended.failed)
    })?;
    match (&cli.bug, hit) {
        (Some(bug), Some(seed)) => {
            println!("{bug}: found by seed {seed}, after {count} runs");
            Ok(ExitCode::SUCCESS)
        }
        (Some(bug), None) => {
            println!("{bug}: not found by {count} runs");
            Ok(ExitCode::FAILURE)
        }
        (None, _) => {
            println!("{count} runs, {wrong} with findings");
            Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
        }
    }
}

/// Every planted bug: which seed finds it, by what.
fn table(cli: &Cli, seeds: &[u64]) -> Result<ExitCode> {
    let cli = Cli { brief: true, ..cli.clone() };
    let mut missed = 0;
    println!("| planted bug | what goes wrong | runs until found | found by |");
    println!("|---|---|---|---|");
    for (bug, blind) in planted_bugs::bugs() {
        let (mut count, mut by) = (0, None);
        runs(&cli, seeds, Some(bug.name), |ended| {
            count += 1;
            if ended.found && by.is_none() {
                let finding = ended.text.split("first: ").nth(1).unwrap_or_default();
                by = Some((ended.seed, finding.trim().to_owned()));
            }
            by.is_none()
        })?;
        let blind = if blind { " (blind)" } else { "" };
        match by {
            Some((seed, finding)) => println!(
                "| `{}`{blind} | {} | {count} | seed {seed}: {} |",
                bug.name,
                bug.what,
                finding.chars().take(160).collect::<String>().replace('|', "/")
            ),
            None => {
                missed += 1;
                println!("| `{}`{blind} | {} | not in {count} | |", bug.name, bug.what);
            }
        }
        let _ = std::io::stdout().flush();
    }
    println!();
    println!("{} bugs, {missed} not found.", planted_bugs::bugs().count());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

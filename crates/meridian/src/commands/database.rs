//! `meridian backup`, `restore`, `adopt` and `database move`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use control_plane::adoption::{self, Standing};
use control_plane::config::Config;
use control_plane::init;
use control_plane::layout::Layout;

use crate::State;

/// Commands about where rows are.
#[derive(Subcommand)]
pub enum DatabaseCommand {
    /// Move all rows from SQLite to PostgreSQL. End the control plane first; guests go on.
    Move {
        #[command(flatten)]
        state: State,
        /// An empty database: `postgres://USER@HOST/NAME`.
        #[arg(long, value_name = "URL", required_unless_present = "abandon")]
        to: Option<String>,
        /// Give up a move that was not finished, and stay on SQLite.
        #[arg(long, conflicts_with = "to")]
        abandon: bool,
    },
}

/// What is adopted after a restore.
#[derive(Args)]
pub struct Adopt {
    #[command(flatten)]
    state: State,
    /// Adopt these differences, by their names, or `all`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    confirm: Vec<String>,
    /// End the review: the control plane serves again.
    #[arg(long)]
    finish: bool,
    /// With --finish: also while hosts have not been heard, or differences are left.
    #[arg(long, requires = "finish")]
    leave_rest: bool,
}

/// Copies the database while the cloud runs.
pub fn backup(layout: &Layout, to: &std::path::Path) -> Result<()> {
    init::backup(layout, to)?;
    println!("{} is a whole copy of the database.", to.display());
    println!(
        "Keep {} and {} with it: they are not in it.",
        layout.pki().display(),
        layout.token_keys().display()
    );
    Ok(())
}

/// Takes a restored database into use.
pub async fn restore(layout: &Layout, from: Option<PathBuf>) -> Result<()> {
    let lineage = init::restore(layout, from.as_deref()).await?;
    println!("lineage  {lineage}");
    println!("Start the control plane: hosts connect, say what they have, and change nothing.");
    println!("Then compare: meridian adopt --state {}", layout.root().display());
    Ok(())
}

/// Moves the rows.
pub async fn run(command: DatabaseCommand) -> Result<()> {
    let DatabaseCommand::Move { state, to, abandon } = command;
    let layout = state.layout()?;
    if abandon {
        init::abandon_move(&layout)?;
        println!("The cloud stays on SQLite.");
        return Ok(());
    }
    let moved = init::move_to_postgres(&layout, &to.unwrap_or_default()).await?;
    let rows: u64 = moved.tables.values().map(|table| table.rows).sum();
    println!(
        "{rows} rows of {} tables are in PostgreSQL, counted and compared ({} tables were there from \
         an earlier attempt). The file is kept, and is not used any more.",
        moved.tables.len(),
        moved.resumed
    );
    Ok(())
}

/// Shows what differs, adopts what is confirmed, ends the review.
pub async fn adopt(arguments: Adopt) -> Result<()> {
    let layout = arguments.state.layout()?;
    let config = Config::read(&layout.config())?;
    let db = init::open_database(&layout, &config).await?;
    if !adoption::is_pending(&db).await? {
        bail!("no restored database is under review here");
    }
    let standing = adoption::standing(&db).await?;
    let all = arguments.confirm.iter().any(|name| name == "all");
    for name in arguments.confirm.iter().filter(|name| *name != "all") {
        if !standing.differences.iter().any(|difference| difference.name == *name) {
            bail!("there is no difference {name:?}; `meridian adopt` lists them");
        }
    }
    let mut refused = 0;
    for difference in &standing.differences {
        if all || arguments.confirm.contains(&difference.name) {
            match adoption::adopt(&db, difference).await {
                Ok(()) => println!("adopted {}", difference.name),
                Err(fault) => {
                    refused += 1;
                    println!("not adopted {}: {fault}", difference.name);
                }
            }
        }
    }
    let standing = adoption::standing(&db).await?;
    show(&standing);
    if arguments.finish {
        let open = !standing.silent.is_empty() || !standing.differences.is_empty();
        if open && !arguments.leave_rest {
            bail!(
                "{} hosts were not heard and {} differences are left: see to them, or say --leave-rest",
                standing.silent.len(),
                standing.differences.len()
            );
        }
        let lineage = adoption::finish(&db).await?;
        println!("The review is over; the control plane serves again. lineage {lineage}");
    }
    if refused > 0 {
        bail!("{refused} differences were not adopted");
    }
    Ok(())
}

fn show(standing: &Standing) {
    println!("heard      {}", standing.heard.join(", "));
    if !standing.silent.is_empty() {
        println!("not heard  {}", standing.silent.join(", "));
    }
    if standing.differences.is_empty() {
        println!("Rows and the hosts that were heard agree.");
    }
    for difference in &standing.differences {
        println!("{difference}");
    }
}

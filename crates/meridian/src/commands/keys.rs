//! `meridian keys`.

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use control_plane::keys::{self, Use};

use crate::State;

/// Which keys, and what happens to them.
#[derive(Subcommand)]
pub enum Keys {
    /// Add a key that signs tokens after a while; remove those whose every token has expired.
    RotateTokens {
        #[command(flatten)]
        state: State,
        /// Seconds until it is used: time for every process, on every machine, to learn of it.
        #[arg(long, default_value_t = 300)]
        wait: u64,
    },
    /// Add a key that seals secrets after a while. Then run `reseal`.
    RotateCredentials {
        #[command(flatten)]
        state: State,
        /// Seconds until it is used: time for every process, on every machine, to learn of it.
        #[arg(long, default_value_t = 300)]
        wait: u64,
    },
    /// Seal all secrets with the key in use, and remove older ones.
    Reseal {
        #[command(flatten)]
        state: State,
    },
}

/// Does it, and prints what happened.
pub async fn run(command: Keys) -> Result<()> {
    let told = match command {
        Keys::RotateTokens { state, wait } => {
            keys::rotate(&state.layout()?, Use::Tokens, Duration::from_secs(wait))?
        }
        Keys::RotateCredentials { state, wait } => {
            keys::rotate(&state.layout()?, Use::Credentials, Duration::from_secs(wait))?
        }
        Keys::Reseal { state } => keys::reseal(&state.layout()?).await?,
    };
    println!("{told}");
    Ok(())
}

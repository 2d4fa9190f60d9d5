//! Kill points of a process, from outside: which it passes, and at which it is to die. Only debug
//! builds have them; see the crate `kill_points`.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// What happens to a process at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// SIGKILL.
    Dies,
    /// SIGSTOP; it goes on at that point when it gets SIGCONT.
    Stops,
}

/// The directory through which a process and its test speak of kill points.
pub struct KillPoints(PathBuf);

impl KillPoints {
    /// Makes the directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(directory: &Path) -> Result<KillPoints> {
        std::fs::create_dir_all(directory)?;
        Ok(KillPoints(directory.to_owned()))
    }

    /// What the process needs in its environment.
    pub fn environment(&self) -> (&'static str, String) {
        ("MERIDIAN_KILL_POINTS", self.0.display().to_string())
    }

    /// From now on every point that is passed is written down.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record(&self) -> Result<()> {
        Ok(std::fs::write(self.0.join("passed"), "")?)
    }

    /// The points that were passed since, in order; goes on recording.
    pub fn passed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.join("passed")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Ends the recording.
    pub fn stop_recording(&self) {
        let _ = std::fs::remove_file(self.0.join("passed"));
    }

    /// The process dies when it passes `point` for the `nth` time from now, from 1.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn arm(&self, point: &str, nth: usize) -> Result<()> {
        self.arm_for(point, nth, At::Dies)
    }

    /// The same, for what happens there.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn arm_for(&self, point: &str, nth: usize, at: At) -> Result<()> {
        let _ = std::fs::remove_file(self.0.join("died"));
        let new = self.0.join("new");
        let stop = if at == At::Stops { ":stop" } else { "" };
        std::fs::write(&new, format!("{point}:{nth}{stop}"))?;
        Ok(std::fs::rename(new, self.0.join("at"))?)
    }

    /// Which process met its point, if one did.
    pub fn victim(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.0.join("victim")).ok()?;
        self.died().then(|| text.trim().parse().ok()).flatten()
    }

    /// Whether the process has died, or stopped, where it should.
    pub fn died(&self) -> bool {
        self.0.join("died").exists()
    }

    /// Takes back what was asked, if it has not happened.
    pub fn disarm(&self) {
        let _ = std::fs::remove_file(self.0.join("at"));
    }
}

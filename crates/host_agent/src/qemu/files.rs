//! Where a guest's running things are: `servers/<id>/run/`.
//!
//! ```text
//!   lock            held by the process for as long as it lives
//!   process.json    pid, start time, boot, incarnation
//!   qmp.sock        the agent's monitor       operator.sock   a spare one for operators
//!   console.sock    the serial console        console.log     what it printed (console.log.1 before)
//!   qemu.log        QEMU's own words          qemu.log.1      those of the start before
//! ```
//! The folder is the guest's group's to enter and nobody's but root's to write, so a guest that
//! escapes into its process can neither plant a link nor reach a socket.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::process::ProcessRecord;

/// The console's log is cut when it is longer than this; the half before is kept beside it.
pub const CONSOLE_LIMIT_BYTES: u64 = 1 << 20;
/// QEMU's own log is cut when it is longer than this.
const QEMU_LOG_LIMIT_BYTES: u64 = 1 << 20;
/// How much of QEMU's output goes into an error.
const OUTPUT_TAIL_BYTES: u64 = 2048;

/// The files of one server's run.
#[derive(Clone, Debug)]
pub struct RunFiles {
    directory: PathBuf,
}

impl RunFiles {
    /// Of the server whose folder this is.
    pub fn of(server_directory: &Path) -> RunFiles {
        RunFiles { directory: server_directory.join("run") }
    }

    /// Makes the folder, enterable by the guest's group, and the console's log, the guest's own.
    pub fn prepare(&self, uid: Option<u32>) -> io::Result<()> {
        let server = self.directory.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(&self.directory)?;
        for directory in [server, self.directory.as_path()] {
            std::os::unix::fs::chown(directory, None, uid)?;
            std::fs::set_permissions(directory, Permissions::from_mode(0o710))?;
        }
        let console =
            File::options().create(true).append(true).mode(0o600).open(self.console_log())?;
        std::os::unix::fs::fchown(&console, uid, uid)
    }

    /// The lock's file.
    pub fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// The console's log.
    pub fn console_log(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// The agent's monitor.
    pub fn qmp(&self) -> Socket<'_> {
        Socket(&self.directory, "qmp.sock")
    }

    /// The operators' monitor.
    pub fn operator(&self) -> Socket<'_> {
        Socket(&self.directory, "operator.sock")
    }

    /// The serial console.
    pub fn console(&self) -> Socket<'_> {
        Socket(&self.directory, "console.sock")
    }

    /// Begins QEMU's log anew and keeps the one before.
    pub fn begin_log(&self) -> io::Result<File> {
        let path = self.directory.join("qemu.log");
        match std::fs::rename(&path, self.directory.join("qemu.log.1")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::options().create(true).append(true).mode(0o600).open(path)
    }

    /// The end of what QEMU printed since its start, in one line, for an error's message.
    pub fn output_tail(&self) -> String {
        let Ok(text) = tail(&self.directory.join("qemu.log"), OUTPUT_TAIL_BYTES) else {
            return String::new();
        };
        String::from_utf8_lossy(&text)
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Writes down the process. Not synced: after a crash of the machine there is none.
    pub fn write_record(&self, record: &ProcessRecord) -> io::Result<()> {
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        let new = self.directory.join("process.json.new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, self.directory.join("process.json"))
    }

    /// What was written down; `None` when nothing readable is there.
    pub fn read_record(&self) -> Option<ProcessRecord> {
        serde_json::from_slice(&std::fs::read(self.directory.join("process.json")).ok()?).ok()
    }

    /// The end of the console: `lines` from the end, or all that is kept.
    pub fn read_console(&self, lines: Option<u32>) -> io::Result<String> {
        let mut bytes = tail(&self.directory.join("console.log.1"), CONSOLE_LIMIT_BYTES)?;
        bytes.extend(tail(&self.console_log(), CONSOLE_LIMIT_BYTES)?);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some(lines) = lines else {
            return Ok(text);
        };
        let lines = usize::try_from(lines).unwrap_or(usize::MAX);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        let start = match lines {
            0 => text.len(),
            _ => body.rmatch_indices('\n').nth(lines - 1).map_or(0, |(at, _)| at + 1),
        };
        Ok(text[start..].to_owned())
    }

    /// Cuts logs that have grown long. The writers append, so they go on at the new end; what is
    /// written between reading and cutting is lost.
    pub fn cut_logs(&self) -> io::Result<()> {
        let console = self.console_log();
        if length(&console)? > CONSOLE_LIMIT_BYTES {
            let kept = tail(&console, CONSOLE_LIMIT_BYTES / 2)?;
            let mut before = File::options()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(self.directory.join("console.log.1"))?;
            before.write_all(&kept)?;
            File::options().write(true).open(&console)?.set_len(0)?;
        }
        let log = self.directory.join("qemu.log");
        if length(&log)? > QEMU_LOG_LIMIT_BYTES {
            File::options().write(true).open(&log)?.set_len(0)?;
        }
        Ok(())
    }
}

fn length(path: &Path) -> io::Result<u64> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn tail(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}

/// A socket in the run folder. A socket's address holds 107 bytes, fewer than many a path, so it
/// is reached through the open folder.
pub struct Socket<'a>(&'a Path, &'static str);

impl Socket<'_> {
    fn address(&self, directory: &File) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), self.1))
    }

    /// Listens, root's alone, in place of what was there.
    pub fn listen(&self) -> io::Result<UnixListener> {
        let path = self.0.join(self.1);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let directory = File::open(self.0)?;
        let listener = UnixListener::bind(self.address(&directory))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Connects. A listening socket takes connections before its process has begun to answer.
    /// The stream is ready to be handed to the runtime.
    pub fn connect_blocking(&self) -> io::Result<UnixStream> {
        let directory = File::open(self.0)?;
        let stream = UnixStream::connect(self.address(&directory))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Connects, on the runtime.
    pub fn connect(&self) -> io::Result<tokio::net::UnixStream> {
        tokio::net::UnixStream::from_std(self.connect_blocking()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_files() -> (tempfile::TempDir, RunFiles) {
        let folder = tempfile::tempdir().unwrap();
        let files = RunFiles::of(&folder.path().join("a-server"));
        files.prepare(None).unwrap();
        (folder, files)
    }

    #[test]
    fn console_lines_are_counted_from_the_end() {
        let (_folder, files) = run_files();
        std::fs::write(files.console_log(), "one\ntwo\nthree\n").unwrap();
        assert_eq!(files.read_console(Some(2)).unwrap(), "two\nthree\n");
        assert_eq!(files.read_console(Some(9)).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(files.read_console(Some(0)).unwrap(), "");
        assert_eq!(files.read_console(None).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_long_console_is_cut_and_its_end_kept() {
        let (_folder, files) = run_files();
        let mut writer = File::options().append(true).open(files.console_log()).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..1100 {
            writer.write_all(line.as_bytes()).unwrap();
        }
        writer.write_all(b"last before\n").unwrap();
        files.cut_logs().unwrap();
        writer.write_all(b"first after\n").unwrap();
        assert_eq!(std::fs::metadata(files.console_log()).unwrap().len(), 12);
        assert_eq!(files.read_console(Some(2)).unwrap(), "last before\nfirst after\n");
    }

    #[tokio::test]
    async fn sockets_work_below_paths_of_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120)).join("e".repeat(120));
        let files = RunFiles::of(&deep);
        files.prepare(None).unwrap();
        let listener = files.qmp().listen().unwrap();
        let _stream = files.qmp().connect().unwrap();
        listener.accept().unwrap();
        // Again, over what a former process left.
        files.qmp().listen().unwrap();
    }
}

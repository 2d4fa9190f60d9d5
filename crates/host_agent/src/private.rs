//! Files that are root's alone, whatever the umask: an agent may be started by hand.
//!
//! The state directory itself and those of servers and images can be passed through, since guests'
//! processes run under users of their own; what lies there is closed one by one.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes a directory that nobody else can look into, or closes the one that is there.
pub(crate) fn directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Makes a directory that others can pass through, but not list.
pub(crate) fn passage(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o711))
}

/// Makes a file that nobody else can read, or closes the one that is there.
pub(crate) fn file(path: &Path) -> io::Result<()> {
    File::options().create(true).append(true).mode(0o600).open(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// The same for a SQLite database before it is opened, with the files beside it. (Not while it is
/// open: closing another descriptor of the file would drop SQLite's locks.)
pub(crate) fn database(path: &Path) -> io::Result<()> {
    file(path)?;
    for suffix in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::set_permissions(PathBuf::from(name), Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

//! Mistakes that can be switched on, to see whether the simulation finds them. A simulation that
//! finds nothing proves something only if it finds what is known to be there.
//!
//! A place in the code asks [`planted`] whether its mistake is to be made. In a release build, and
//! without the feature `armed`, that is the constant `false`, and the compiler leaves nothing of
//! it. Otherwise a process makes at most one mistake, and only after it has chosen it by name with
//! [`choose`], which nothing but the simulation does; the lists are `list.rs` and `blind.rs`.
//!
//! To plant another: add its line to one of them, and make the mistake where it belongs:
//!
//! ```
//! # let mut number = 1;
//! if !planted_bugs::planted("skip_the_increment") {
//!     number += 1;
//! }
//! # assert_eq!(number, 2);
//! ```

mod blind;
mod list;

pub use list::Bug;

/// Every planted bug, and whether its author had not read what looks for it.
pub fn bugs() -> impl Iterator<Item = (&'static Bug, bool)> {
    let known = list::BUGS.iter().map(|bug| (bug, false));
    known.chain(blind::BUGS.iter().map(|bug| (bug, true)))
}

/// Whether the mistake of this name is to be made.
#[cfg(not(all(feature = "armed", debug_assertions)))]
#[inline(always)]
pub const fn planted(_name: &str) -> bool {
    false
}

/// Whether the mistake of this name is to be made.
#[cfg(all(feature = "armed", debug_assertions))]
pub fn planted(name: &str) -> bool {
    armed::planted(name)
}

/// Has this process make one mistake, from now on.
///
/// # Errors
/// When there is none of that name, when one was chosen before, or when the build has none; in
/// words.
pub fn choose(name: &str) -> Result<(), String> {
    let Some((bug, _)) = bugs().find(|(bug, _)| bug.name == name) else {
        let known: Vec<&str> = bugs().map(|(bug, _)| bug.name).collect();
        return Err(format!("there is no planted bug {name:?}; there are: {}", known.join(", ")));
    };
    #[cfg(all(feature = "armed", debug_assertions))]
    return armed::choose(bug.name);
    #[cfg(not(all(feature = "armed", debug_assertions)))]
    Err(format!("{} is not in this build: it has no debug assertions", bug.name))
}

#[cfg(all(feature = "armed", debug_assertions))]
mod armed {
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<&'static str> = OnceLock::new();

    pub fn planted(name: &str) -> bool {
        CHOSEN.get().is_some_and(|chosen| *chosen == name)
    }

    pub fn choose(name: &'static str) -> Result<(), String> {
        CHOSEN.set(name).map_err(|_| "a bug was chosen already".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::bugs;

    fn sources(directory: &Path, found: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_bug_of_the_list_is_planted_and_every_planted_one_is_listed() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut text = String::new();
        for entry in std::fs::read_dir(crates).unwrap() {
            let path = entry.unwrap().path();
            if path.join("src").is_dir() && path.file_name().unwrap() != "planted_bugs" {
                sources(&path.join("src"), &mut text);
            }
        }
        let planted: BTreeSet<&str> = text
            .split("planted(\"")
            .skip(1)
            .filter_map(|rest| rest.split_once('"').map(|(name, _)| name))
            .collect();
        let listed: BTreeSet<&str> = bugs().map(|(bug, _)| bug.name).collect();
        assert_eq!(listed.len(), bugs().count(), "a name stands twice in the lists");
        assert_eq!(planted, listed);
    }
}

//! The checkout that a build directory belongs to: whether it is still there, and which branch is checked out. Reads a
//! few of Git's files; runs no Git.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A workspace that was built in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    pub project: PathBuf,
    pub is_there: bool,
    /// The branch, or the first digits of the commit where none is checked out.
    pub branch: Option<String>,
}

impl Checkout {
    /// Looks at a workspace that was built in `build_dir`.
    pub fn of(project: &Path, build_dir: &Path) -> Self {
        let is_there = is_there(project, build_dir);
        let branch = if is_there { branch_of(project) } else { None };
        Self { project: project.to_owned(), is_there, branch }
    }
}

/// Whether anything but the build directory is left. What can't be looked at is there.
fn is_there(project: &Path, build_dir: &Path) -> bool {
    match fs::read_dir(project) {
        Ok(items) => items.flatten().any(|item| !build_dir.starts_with(item.path())),
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

fn branch_of(project: &Path) -> Option<String> {
    let git = project.ancestors().map(|dir| dir.join(".git")).find(|git| git.exists())?;
    let dir = match fs::read_to_string(&git) {
        // A worktree has a file that leads to its own folder in the repository.
        Ok(text) => git.parent()?.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => git,
    };
    let head = fs::read_to_string(dir.join("HEAD")).ok()?;
    let head = head.trim();
    let branch = head.strip_prefix("ref: ").map(|name| name.strip_prefix("refs/heads/").unwrap_or(name));
    branch.map_or_else(|| head.get(..8).map(str::to_owned), |branch| Some(branch.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_gone_when_only_its_target_directory_is_left() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (project, target) = (dir.path().join("p"), dir.path().join("p/target"));
        let look = || Checkout::of(&project, &target);
        assert!(!look().is_there, "nothing is there");
        fs::create_dir_all(&target).expect("mkdir");
        assert!(!look().is_there, "only what was built");
        fs::write(project.join("Cargo.toml"), "").expect("write");
        assert_eq!((look().is_there, look().branch), (true, None));
        assert!(Checkout::of(&project, Path::new("/elsewhere")).is_there);
    }

    #[test]
    fn branches_of_repositories_and_worktrees() {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        };
        let branch = |name: &str| branch_of(&dir.path().join(name));
        write("main/.git/HEAD", "ref: refs/heads/main\n");
        write("main/.git/worktrees/w/HEAD", "ref: refs/heads/fix/it\n");
        write("main/member/Cargo.toml", "");
        write("w/.git", "gitdir: ../main/.git/worktrees/w\n");
        assert_eq!(branch("main/member").as_deref(), Some("main"));
        assert_eq!(branch("w").as_deref(), Some("fix/it"));
        write("main/.git/HEAD", "0123456789abcdef\n");
        assert_eq!(branch("main").as_deref(), Some("01234567"));
        write("w/.git", "gitdir: /nowhere\n");
        assert_eq!(branch("w"), None);
    }
}

//! What the wrapper adds to, and takes from, a compiler's arguments on a miss. Pure text; does not run anything.

use crate::paths::{Root, Roots};
use crate::unit::Unit;

/// How a compile differs from what Cargo asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adjustments {
    /// Roots that the outputs must not name.
    pub remapped: Vec<Root>,
    /// Compile as asked, with `-C incremental`.
    pub keeps_incremental: bool,
    /// Where the linker shall list the files that it read.
    pub link_report: Option<String>,
    /// The object that a build script is linked with, so that kache can run it.
    pub script_hook: Option<String>,
}

/// The roots that a compile of `unit` remaps. Coverage tools need real paths.
pub fn remapped_roots(unit: &Unit, roots: &Roots, cwd: &str) -> Vec<Root> {
    if unit.coverage {
        return Vec::new();
    }
    // Of a package outside the workspace, which is compiled in its own directory, Cargo names the source by its absolute
    // path, and `file!()` yields that.
    let is_outside = unit.source.starts_with('/')
        && roots.get(Root::Workspace) == Some(cwd)
        && roots.name_of(&unit.source).starts_with(Root::Workspace.name_prefix());
    let keeps = |root: Root| root == Root::Sysroot || (root == Root::Workspace && is_outside);
    Root::ALL.into_iter().filter(|root| roots.get(*root).is_some() && !keeps(*root)).collect()
}

/// The arguments for the real compiler. rustc lets the last matching rule win, so ours come first and the user's
/// own rules keep their effect; of ours the longest path comes last.
pub fn adjust(args: &[String], roots: &Roots, adjustments: &Adjustments) -> Vec<String> {
    let mut out = Vec::with_capacity(args.len() + 4);
    let rules: Vec<(Root, &str)> =
        roots.iter().filter(|(root, _)| adjustments.remapped.contains(root)).collect();
    for (root, path) in rules.into_iter().rev() {
        out.push(format!("--remap-path-prefix={path}={}", root.remap_target()));
    }
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if adjustments.keeps_incremental {
            out.push(arg.clone());
        } else if arg.strip_prefix("-C").is_some_and(|option| option.starts_with("incremental=")) {
            continue;
        } else if (arg == "-C" || arg == "--codegen")
            && rest.as_slice().first().is_some_and(|option| option.starts_with("incremental="))
        {
            rest.next();
        } else {
            out.push(arg.clone());
        }
    }
    out.extend(adjustments.script_hook.iter().map(|path| format!("-Clink-arg={path}")));
    if let Some(path) = &adjustments.link_report {
        out.push(format!("-Clink-arg=-Wl,--dependency-file={path}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_first_and_incremental_goes() {
        let roots = Roots::new([(Root::Workspace, "/w".to_owned()), (Root::Target, "/w/target".to_owned())]);
        let args: Vec<String> = [
            "a.rs",
            "-C",
            "incremental=/i",
            "-Cincremental=/i",
            "-C",
            "opt-level=1",
            "--remap-path-prefix=/w=/x",
        ]
        .map(str::to_owned)
        .into();
        let adjustments = Adjustments {
            remapped: vec![Root::Target, Root::Workspace],
            keeps_incremental: false,
            link_report: Some("/tmp/l".to_owned()),
            script_hook: Some("/c/hook".to_owned()),
        };
        assert_eq!(
            adjust(&args, &roots, &adjustments),
            [
                "--remap-path-prefix=/w=././.",
                "--remap-path-prefix=/w/target=././target",
                "a.rs",
                "-C",
                "opt-level=1",
                "--remap-path-prefix=/w=/x",
                "-Clink-arg=/c/hook",
                "-Clink-arg=-Wl,--dependency-file=/tmp/l",
            ]
        );
        assert_eq!(
            adjust(&args, &roots, &Adjustments { keeps_incremental: true, ..Adjustments::default() }),
            args
        );
    }
}

//! Response files (`@PATH` on a command line): how their text becomes arguments, and arguments their text. Does not
//! read or write any.
//!
//! Rules of rustc (`compiler/rustc_driver_impl/src/args.rs`): each line is one argument, taken as it is, without quoting;
//! a line that starts with `@` is an argument too, no further file. Paths are relative to the working directory.
//! `@shell:PATH` has other rules after `-Z shell-argfiles`.

/// Longest argument that goes on a command line, in bytes: the kernel's limit is 128 KiB.
const ARG_BYTES_MAX: usize = 100 << 10;
/// Most bytes of arguments together: as a rule the kernel takes 2 MiB, the environment included.
const ARGS_BYTES_MAX: usize = 1 << 20;

/// The response file that an argument names.
pub fn named_by(arg: &str) -> Option<&str> {
    arg.strip_prefix('@')
}

/// Whether the file at `path` is read by the rules of a shell.
pub fn is_for_shell(path: &str) -> bool {
    path.starts_with("shell:")
}

/// The arguments in a response file.
pub fn args(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(str::to_owned)
}

/// The text of a response file with these arguments; `None` where one of them can't be a line.
pub fn render(args: &[String]) -> Option<String> {
    let is_line = |arg: &String| !arg.contains('\n') && !arg.ends_with('\r');
    args.iter().all(is_line).then(|| args.iter().flat_map(|arg| [arg.as_str(), "\n"]).collect())
}

/// Whether arguments can stand on a command line, as far as they decide it.
pub fn fits(args: &[String]) -> bool {
    let bytes: usize = args.iter().map(|arg| arg.len() + 1 + size_of::<usize>()).sum();
    bytes < ARGS_BYTES_MAX && args.iter().all(|arg| arg.len() < ARG_BYTES_MAX && named_by(arg).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    #[test]
    fn lines_are_arguments() {
        for (text, want) in [
            ("", &[][..]),
            ("a\n", &["a"]),
            ("a\r\nb", &["a", "b"]),
            ("--cfg\nx y=\"z\"\n\n@nested\n", &["--cfg", "x y=\"z\"", "", "@nested"]),
        ] {
            assert_eq!(args(text).collect::<Vec<_>>(), want, "{text:?}");
        }
        assert_eq!((named_by("@a b"), named_by("a@")), (Some("a b"), None));
    }

    #[test]
    fn what_can_stand_where() {
        let long = "x".repeat(ARG_BYTES_MAX);
        let many = vec!["x".repeat(1 << 10); 1 << 10];
        assert!(fits(&owned(&["a", ""])) && fits(&owned(&[&long[1..]])));
        assert!(!fits(&owned(&[&long])) && !fits(&many) && !fits(&vec![String::new(); 1 << 17]));
        // Came out of a file; rustc would look for another one.
        assert!(!fits(&owned(&["@a"])));
        assert_eq!(render(&owned(&["a\nb"])), None);
        assert_eq!(render(&owned(&["a\r"])), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(list in proptest::collection::vec("[ -~\r\n]{0,6}", 0..5)) {
            if let Some(text) = render(&list) {
                proptest::prop_assert_eq!(args(&text).collect::<Vec<_>>(), list);
            }
        }
    }
}

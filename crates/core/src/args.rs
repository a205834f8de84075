//! First stage of parsing: how flags are spelled on rustc's command line (getopts rules). Knows which flags exist
//! and how many values they take, not what they mean; `unit` is the second stage.

use crate::flags::{Arity, CODEGEN, FLAGS, Flag, find, find_short};
use crate::reason::Bypass;
use crate::unstable_flags::UNSTABLE;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// `""` for a top-level flag, `-C` or `-Z` for their options.
    pub family: &'static str,
    pub flag: &'static Flag,
    /// Its value, if any.
    pub value: Option<String>,
}

impl Arg {
    /// The flag as people know it: `--cfg`, `-C opt-level`.
    pub fn display_name(&self) -> String {
        if self.family.is_empty() {
            format!("--{}", self.flag.name)
        } else {
            format!("{} {}", self.family, self.flag.name)
        }
    }

    /// The value, or the empty string.
    pub fn text(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Flags in order.
    pub flags: Vec<Arg>,
    /// Arguments that are not flags: source files.
    pub sources: Vec<String>,
}

/// Takes a command line apart, or says why not.
pub fn parse(args: &[String]) -> Result<CommandLine, Bypass> {
    let mut line = CommandLine::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "-" {
            return Err(Bypass::Stdin);
        } else if arg == "--" {
            line.sources.extend(rest.cloned());
            break;
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let flag = FLAGS.iter().find(|flag| flag.name == name && name.len() > 1);
            push(&mut line, flag.ok_or_else(|| Bypass::UnknownFlag(arg.clone()))?, attached, arg, &mut rest)?;
        } else if let Some(letters) = arg.strip_prefix('-') {
            let letter = letters.chars().next().unwrap_or('?');
            let attached = &letters[letter.len_utf8()..];
            let flag = find_short(letter).ok_or_else(|| Bypass::UnknownFlag(arg.clone()))?;
            if letters == "vV" {
                return Err(Bypass::Query);
            }
            let attached = (!attached.is_empty()).then(|| attached.to_owned());
            push(&mut line, flag, attached, arg, &mut rest)?;
        } else {
            line.sources.push(arg.clone());
        }
    }
    Ok(line)
}

fn push<'a>(
    line: &mut CommandLine,
    flag: &'static Flag,
    attached: Option<String>,
    arg: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), Bypass> {
    let unknown = || Bypass::UnknownFlag(arg.to_owned());
    let value = match (flag.arity, attached) {
        (Arity::None, Some(_)) => return Err(unknown()),
        (Arity::None, None) => None,
        (_, Some(value)) => Some(value),
        (_, None) => Some(rest.next().ok_or_else(unknown)?.clone()),
    };
    let (family, table) = match flag.name {
        "codegen" => ("-C", CODEGEN),
        "unstable" => ("-Z", UNSTABLE),
        _ => {
            line.flags.push(Arg { family: "", flag, value });
            return Ok(());
        }
    };
    let option = value.unwrap_or_default();
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (option.as_str(), None),
    };
    let flag = find(table, name).ok_or_else(|| Bypass::UnknownFlag(format!("{family} {name}")))?;
    line.flags.push(Arg { family, flag, value });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<String, Bypass> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let line = parse(&args)?;
        let show = |arg: &Arg| format!("{}={}", arg.display_name(), arg.value.as_deref().unwrap_or("~"));
        let mut shown: Vec<String> = line.flags.iter().map(show).collect();
        shown.extend(line.sources);
        Ok(shown.join(" "))
    }

    #[test]
    fn spellings() {
        for (args, want) in [
            (&["--crate-name", "a", "src/lib.rs"][..], "--crate-name=a src/lib.rs"),
            (&["--crate-name=a"], "--crate-name=a"),
            (&["-C", "opt-level=3", "-Copt_level=0", "-Clto"], "-C opt-level=3 -C opt-level=0 -C lto=~"),
            (&["-Ldependency=/d", "-L", "/e"], "--search-path=dependency=/d --search-path=/e"),
            (
                &["-Wunused", "-W", "x", "--warn", "y", "--cap-lints=warn"],
                "--warn=unused --warn=x --warn=y --cap-lints=warn",
            ),
            (&["-g", "-O", "--test"], "--g=~ --O=~ --test=~"),
            (&["--cfg", "feature=\"a=b\""], "--cfg=feature=\"a=b\""),
            (&["--", "-x.rs"], "-x.rs"),
        ] {
            assert_eq!(parsed(args).as_deref(), Ok(want));
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_a_bypass() {
        for (args, code) in [
            (&["--frobnicate"][..], "unknown-flag"),
            (&["-C", "frobnicate=1"], "unknown-flag"),
            (&["-Zfrobnicate"], "unknown-flag"),
            (&["-gO"], "unknown-flag"),
            (&["--g"], "unknown-flag"),
            (&["-Y"], "unknown-flag"),
            (&["--crate-name"], "unknown-flag"),
            (&["-"], "stdin"),
            (&["-vV"], "query"),
        ] {
            assert_eq!(parsed(args).map_err(|bypass| bypass.code()), Err(code), "{args:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_arguments_never_panic(args in proptest::collection::vec("(-{0,2}[A-Za-z=é-]{0,6}|[ -~]{0,8})", 0..6)) {
            let _ = parse(&args);
        }
    }
}

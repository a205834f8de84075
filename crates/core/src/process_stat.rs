//! The line that Linux keeps about a process, `/proc/PID/stat`, as far as it tells one process from a later one of the
//! same number, and whether it gets anywhere. Knows nothing about where the line is read.

/// What is of interest in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat<'a> {
    /// Its name, which the process may change: at most 15 bytes.
    pub name: &'a str,
    /// A letter: `R` runs, `T` is stopped, `Z` has ended and isn't waited for.
    pub state: &'a str,
    pub parent: &'a str,
    /// Session of processes: those of one terminal or one detached process.
    pub session: &'a str,
    /// Time on a processor, its own and that of children that it has waited for, in clock ticks.
    pub ticks: u64,
    /// When it was started, in clock ticks since the system was.
    pub start: &'a str,
}

impl<'a> ProcessStat<'a> {
    /// Reads the line: number, name in parentheses, which may hold anything, then the state and some fifty numbers.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (head, fields) = line.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?;
        let session = fields.nth(1)?;
        // Fields 14 to 17 of the line.
        let times = fields.by_ref().skip(7).take(4).map(str::parse::<u64>);
        let ticks = times.sum::<Result<u64, _>>().ok()?;
        // The 22nd field.
        let start = fields.nth(4)?;
        Some(Self { name, state, parent, session, ticks, start })
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, "Z" | "X")
    }

    /// Whether the process does nothing until it is told to go on: by a signal, or by a debugger.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, "T" | "t")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let numbers: String = (4..=52).map(|field| format!(" {field}")).collect();
        for (name, state, over) in
            [("cargo", "S", false), ("a) Z 1 (b", "R", false), ("", "Z", true), ("x y", "X", true)]
        {
            let line = format!("17 ({name}) {state}{numbers}\n");
            let stat = ProcessStat::parse(&line).expect("a line");
            assert_eq!((stat.state, stat.start, stat.is_over()), (state, "22", over), "{name:?}");
            assert_eq!(stat.name, name);
            assert_eq!((stat.parent, stat.session, stat.ticks), ("4", "6", 14 + 15 + 16 + 17), "{name:?}");
        }
        for line in ["", "17 (cargo", "17 (cargo) S 1 2"] {
            assert_eq!(ProcessStat::parse(line), None, "{line:?}");
        }
    }
}

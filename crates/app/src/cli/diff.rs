//! The difference between two texts, line by line with some context, for showing a change before it is made.

use crate::ui::{Style, Ui};

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The change from `old` to `new`, as text for standard output; empty when there is none.
pub fn render(old: &str, new: &str, ui: &Ui) -> String {
    let lines = compare(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let near = |i: usize| {
        let window = i.saturating_sub(CONTEXT)..(i + CONTEXT + 1).min(lines.len());
        lines[window].iter().any(|line| !matches!(line, Line::Same(_)))
    };
    let mut text = String::new();
    let mut skipped = false;
    for (i, line) in lines.iter().enumerate() {
        if !near(i) {
            skipped = true;
            continue;
        }
        if std::mem::take(&mut skipped) {
            text.push_str("  ...\n");
        }
        let (style, shown) = match line {
            Line::Same(line) => (Style::Dim, format!("  {line}")),
            Line::Gone(line) => (Style::Bad, format!("- {line}")),
            Line::New(line) => (Style::Good, format!("+ {line}")),
        };
        text.push_str(&ui.out(style, shown.trim_end()));
        text.push('\n');
    }
    text
}

/// Longest common subsequence, by table: the files are configuration, not novels.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let width = new.len() + 1;
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = match old[i] == new[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_their_surroundings() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\n5\nsix\n7\n8\n9\nten\n";
        let expected = "  ...\n  3\n  4\n  5\n- 6\n+ six\n  7\n  8\n  9\n+ ten\n";
        assert_eq!(render(old, new, &Ui::plain()), expected);
        assert_eq!(render(old, old, &Ui::plain()), "");
        assert_eq!(render("", "a\n", &Ui::plain()), "+ a\n");
        assert_eq!(render("a\n", "", &Ui::plain()), "- a\n");
    }
}

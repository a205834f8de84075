//! Lines that are folded where the terminal is narrow. Knows nothing about what they say.

use ratatui::text::{Line, Span};

/// Lines of at most `width` columns, broken between words; a word that is longer stays whole.
pub fn fold(lines: Vec<Line<'static>>, width: u16) -> Vec<Line<'static>> {
    lines.into_iter().flat_map(|line| fold_line(line, usize::from(width))).collect()
}

fn fold_line(line: Line<'static>, width: usize) -> Vec<Line<'static>> {
    if line.width() <= width {
        return vec![line];
    }
    let style = line.style;
    let (mut folded, mut current, mut used) = (Vec::new(), Vec::new(), 0);
    for span in line.spans {
        for word in span.content.split_inclusive(' ') {
            let word = Span::styled(word.to_owned(), span.style);
            let needed = Span::raw(word.content.trim_end().to_owned()).width();
            if used > 0 && used + needed > width {
                folded.push(Line::from(std::mem::take(&mut current)).style(style));
                used = 0;
            }
            used += word.width();
            current.push(word);
        }
    }
    folded.push(Line::from(current).style(style));
    folded
}

/// The end of a path, which tells more than its beginning.
pub fn tail(path: &str, width: u16) -> String {
    let (count, width) = (path.chars().count(), usize::from(width));
    if count <= width {
        return path.to_owned();
    }
    format!("…{}", path.chars().skip(count + 1 - width.max(1)).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_paths_keep_their_end() {
        let line = Line::from(vec![Span::raw("one two "), Span::raw("three"), Span::raw(" four")]);
        let texts = |lines: Vec<Line<'_>>| lines.iter().map(|l| l.to_string()).collect::<Vec<_>>();
        assert_eq!(
            texts(fold(vec![line.clone()], 9)),
            ["one two ", "three ", "four"].map(str::to_owned).to_vec()
        );
        assert_eq!(fold(vec![line], 80).len(), 1);
        assert_eq!(texts(fold(vec![Line::from("averylongword")], 4)), ["averylongword"]);
        assert_eq!((tail("/home/me/project", 8).as_str(), tail("/a", 8).as_str()), ("…project", "/a"));
    }
}

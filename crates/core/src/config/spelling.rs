//! What a mistyped name was most likely meant to be. Knows no names of its own.

/// The known key that a typing mistake most likely meant.
pub(super) fn nearest(key: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|known| (edit_distance(key, known), *known))
        .filter(|(distance, known)| *distance <= 2 || known.rsplit('.').next() == Some(key))
        .min()
        .map(|(_, known)| known.to_owned())
}

/// Levenshtein distance, by bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

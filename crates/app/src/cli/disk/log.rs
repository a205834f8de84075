//! `kache disk --log`: receipts of what was removed from target directories. The form of `--json` is in
//! `docs/schema/disk-log-v1.json`.

use kache_core::config::Settings;
use kache_core::quantity::{format_moment, format_size};
use kache_store::Store;
use kache_store::receipts::{End, Receipt};
use serde_json::{Value, json};

use crate::error::{Outcome, Status};
use crate::ui::{Align, Table, Ui};

pub fn run(is_json: bool, settings: &Settings, ui: &Ui) -> Outcome {
    let store = settings.cache_dir().ok().and_then(|dir| Store::open_existing(dir).ok());
    let removals = store.map(|store| store.removals()).unwrap_or_default();
    ui.print_as(is_json, || format!("{:#}\n", json(&removals)), || text(&removals, ui))?;
    Ok(Status::Done)
}

/// How it ended, in words; `interrupted` where its process died.
fn ended(receipt: &Receipt) -> &str {
    match &receipt.end {
        End::Begun => "interrupted",
        End::Gone => "removed",
        End::Stays(why) => why,
    }
}

fn text(removals: &[Receipt], ui: &Ui) -> String {
    if removals.is_empty() {
        return "Nothing was removed from target directories yet.\n".to_owned();
    }
    let mut table = Table::new(&[
        ("when", Align::Left),
        ("freed", Align::Right),
        ("what", Align::Left),
        ("why", Align::Left),
        ("target directory", Align::Left),
    ]);
    for receipt in removals {
        let what = match receipt.units {
            None => "all of it".to_owned(),
            Some(1) => "1 unit".to_owned(),
            Some(units) => format!("{units} units"),
        };
        let mut notes = Vec::new();
        if receipt.end != End::Gone {
            notes.push(ended(receipt).to_owned());
        }
        if receipt.stay > 0 {
            notes.push(format!("{} more stay: having them back takes compiles", receipt.stay));
        }
        let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
        let by = if receipt.auto { " (by itself)" } else { "" };
        table.row([
            format_moment(receipt.at_ms),
            format_size(receipt.freed_bytes),
            what,
            format!("{}{by}", receipt.why),
            format!("{}{notes}", receipt.path.display()),
        ]);
    }
    table.render(ui)
}

fn json(removals: &[Receipt]) -> Value {
    let one = |receipt: &Receipt| {
        json!({
            "at_ms": receipt.at_ms,
            "path": receipt.path,
            "why": receipt.why,
            "auto": receipt.auto,
            "units": receipt.units,
            "freed_bytes": receipt.freed_bytes,
            "stay": receipt.stay,
            "end": ended(receipt),
        })
    };
    json!({ "version": 1, "removals": removals.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_removal_says_how_it_ended_and_what_stays() {
        let receipt = Receipt::begin("/src/a/target".into(), "project gone".to_owned());
        let gone =
            Receipt { at_ms: 0, units: Some(2), auto: true, stay: 3, end: End::Gone, ..receipt.clone() };
        let text = text(&[receipt.clone(), gone.clone()], &Ui::plain());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].contains("all of it  project gone") && lines[1].ends_with("(interrupted)"),
            "{text}"
        );
        assert!(lines[2].contains("2 units    project gone (by itself)"), "{text}");
        assert!(lines[2].ends_with("(3 more stay: having them back takes compiles)"), "{text}");
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema/disk-log-v1.json");
        let schema: Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("schema")).expect("JSON");
        assert_eq!(crate::schema::violations(&schema, &json(&[receipt, gone])), [""; 0]);
    }
}

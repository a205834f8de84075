//! Explanations of misses as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use kache_core::event::Event;
use kache_core::quantity::format_duration;
use kache_core::why::{Difference, remedy_of_bypass};
use serde_json::{Value, json};

use super::explain::{Cause, Comparison, Explanation, Line};
use crate::ui::{Style, Ui};

pub fn ago(now_ms: u64, then_ms: u64) -> String {
    format_duration(Duration::from_millis(now_ms.saturating_sub(then_ms)))
}

pub fn text(explanation: &Explanation, ui: &Ui, now_ms: u64) -> String {
    let event = &explanation.event;
    let mut text = format!("{}.\n", ui.out(Style::Bold, &explanation.summary()));
    let title = title(event);
    let _ = writeln!(text, "{title}, {} ago: {}", ago(now_ms, event.at_ms), event.outcome.word());
    cause(&mut text, explanation, ui, now_ms, 1);
    if let Some(why) = &event.not_stored {
        let _ = writeln!(text, "  not stored: {why}");
    }
    text
}

/// What kind of output by what kind of call, in parentheses.
fn form(event: &Event) -> String {
    let words: Vec<&str> =
        [event.kind.as_str(), event.mode.as_str()].into_iter().filter(|word| !word.is_empty()).collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

fn title(event: &Event) -> String {
    let what = form(event);
    let version = if event.package_version.is_empty() { "" } else { " " };
    let package = match event.package.is_empty() || event.package.replace('-', "_") == event.crate_name {
        true => String::new(),
        false => format!(" of {}", event.package),
    };
    format!("{}{package}{version}{}{what}", event.crate_name, event.package_version)
}

fn cause(text: &mut String, explanation: &Explanation, ui: &Ui, now_ms: u64, depth: usize) {
    let pad = "  ".repeat(depth);
    let hint = |text: &mut String, hint: &str| {
        let _ = writeln!(text, "{pad}{} {hint}", ui.out(Style::Accent, "hint:"));
    };
    match &explanation.cause {
        Cause::Changed(comparison) => changed(text, comparison, ui, now_ms, depth),
        other => {
            let _ = writeln!(text, "{pad}{}", sentence(other, &explanation.event, now_ms));
            if let Some(remedy) = remedy(other, &explanation.event) {
                hint(text, remedy);
            }
        }
    }
}

/// Everything but a comparison, in a sentence.
fn sentence(cause: &Cause, event: &Event, now_ms: u64) -> String {
    let detail = event.detail.clone().unwrap_or_else(|| "no reason was recorded".to_owned());
    match cause {
        Cause::Bypassed => {
            format!("Handed to the compiler without a look-up: {detail}.")
        }
        Cause::Verified => format!("There was an entry, and it was to be verified: {detail}."),
        Cause::Broken => format!("There was an entry, but its files were not what they should be: {detail}."),
        Cause::FirstSeen(None) => {
            let form = form(event);
            format!("Never seen before: no earlier compile of this crate{form} is on record.")
        }
        Cause::FirstSeen(Some(why)) => format!("The earlier compile was not stored: {why}."),
        Cause::Gone(then_ms) => {
            let ago = ago(now_ms, *then_ms);
            format!("This very result was in the store {ago} ago and was evicted or purged since.")
        }
        Cause::AllGone(then_ms) => {
            let ago = ago(now_ms, *then_ms);
            format!(
                "Earlier results of this crate (the last one of {ago} ago) were evicted or purged; none is left to \
                 compare with."
            )
        }
        Cause::Unrecorded | Cause::Changed(_) => format!("Nothing was kept to compare with: {detail}."),
    }
}

fn remedy(cause: &Cause, event: &Event) -> Option<&'static str> {
    match cause {
        Cause::Bypassed => remedy_of_bypass(event.reason.as_deref().unwrap_or_default()),
        Cause::Gone(_) | Cause::AllGone(_) => {
            Some("if the size limit was the reason, raise `cache.local_max_size` (KACHE_MAX_SIZE)")
        }
        Cause::FirstSeen(None) => Some("nothing to do: the next build with the same inputs finds it"),
        Cause::Broken => Some("`kache doctor --checksums` looks for more of that"),
        Cause::Verified | Cause::FirstSeen(Some(_)) | Cause::Unrecorded | Cause::Changed(_) => None,
    }
}

fn changed(text: &mut String, comparison: &Comparison, ui: &Ui, now_ms: u64, depth: usize) {
    let pad = "  ".repeat(depth);
    let key = ui.out(Style::Dim, &comparison.key.0.short());
    let ago = ago(now_ms, comparison.at_ms);
    let _ = writeln!(text, "{pad}differs from the nearest earlier result ({key}, {ago} ago) in");
    for line in &comparison.lines {
        let Difference { field, class, old, new } = &line.difference;
        let _ = writeln!(text, "{pad}  {}", ui.out(Style::Warn, field));
        let _ = writeln!(text, "{pad}    was {}", old.as_deref().unwrap_or("not there"));
        let _ = writeln!(text, "{pad}    is  {}", new.as_deref().unwrap_or("not there any more"));
        match &line.because {
            Some(because) => {
                let _ = writeln!(
                    text,
                    "{pad}    because {} was compiled in the same build:",
                    title(&because.event)
                );
                cause(text, because, ui, now_ms, depth + 3);
            }
            None => {
                if let Some(remedy) = class.remedy() {
                    let _ = writeln!(text, "{pad}    {} {remedy}", ui.out(Style::Accent, "hint:"));
                }
            }
        }
    }
    if !comparison.follows.is_empty() {
        let names: Vec<&str> =
            comparison.follows.iter().map(|difference| difference.field.as_str()).collect();
        let _ = writeln!(text, "{pad}  and, for the same reason, in {}", names.join(", "));
    }
}

pub fn json(explanation: &Explanation) -> Value {
    let Explanation { event, cause } = explanation;
    let mut value = json!({
        "summary": explanation.summary(),
        "root": { "crate": explanation.root().event.crate_name, "words": explanation.root().words() },
        "crate": event.crate_name,
        "package": event.package,
        "version": event.package_version,
        "kind": event.kind,
        "mode": event.mode,
        "at_ms": event.at_ms,
        "outcome": event.outcome,
        "reason": event.reason,
        "detail": event.detail,
        "not_stored": event.not_stored,
        "remedy": remedy(cause, event),
    });
    let (word, more) = match cause {
        Cause::Bypassed => ("bypassed", json!({})),
        Cause::Verified => ("verified", json!({})),
        Cause::Broken => ("broken", json!({})),
        Cause::FirstSeen(_) => ("first-seen", json!({})),
        Cause::Gone(then_ms) => ("evicted", json!({ "seen_ms": then_ms })),
        Cause::AllGone(then_ms) => ("all-evicted", json!({ "seen_ms": then_ms })),
        Cause::Unrecorded => ("unrecorded", json!({})),
        Cause::Changed(comparison) => (
            "changed",
            json!({
                "against": { "key": comparison.key, "at_ms": comparison.at_ms },
                "differences": comparison.lines.iter().map(line_json).collect::<Vec<_>>(),
                "follows": comparison.follows.iter().map(difference_json).collect::<Vec<_>>(),
            }),
        ),
    };
    value["cause"] = word.into();
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

fn line_json(line: &Line) -> Value {
    let mut value = difference_json(&line.difference);
    if let Some(because) = &line.because {
        value["because"] = json(because);
    }
    value
}

fn difference_json(difference: &Difference) -> Value {
    json!({
        "field": difference.field,
        "class": difference.class.word(),
        "old": difference.old,
        "new": difference.new,
        "remedy": difference.class.remedy(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::digest::Digest;
    use kache_core::event::Outcome;
    use kache_core::key::EntryKey;
    use kache_core::why::Class;

    fn miss(name: &str) -> Event {
        let mut event = Event::new(name, Outcome::Miss);
        event.package = name.to_owned();
        event.package_version = "1.2.3".into();
        (event.kind, event.mode) = ("lib".into(), "build".into());
        event.at_ms = 1000;
        event
    }

    fn difference(field: &str, class: Class, old: Option<&str>, new: Option<&str>) -> Difference {
        let text = |value: Option<&str>| value.map(str::to_owned);
        Difference { field: field.into(), class, old: text(old), new: text(new) }
    }

    fn comparison(lines: Vec<Line>) -> Cause {
        let key = EntryKey(Digest::of(b"x"));
        let follows = vec![difference("extern other", Class::Extern, None, None)];
        Cause::Changed(Comparison { key, at_ms: 0, lines, follows })
    }

    #[test]
    fn a_comparison_goes_down_to_the_first_thing_that_changed() {
        let file = difference("file {ws}/dep/src/lib.rs", Class::File, Some("aaa"), Some("bbb"));
        let dep = Explanation {
            event: miss("dep"),
            cause: comparison(vec![Line { difference: file, because: None }]),
        };
        let variable = difference("env BUILD_ID", Class::Variable, None, Some("\"7\""));
        let app = Explanation {
            event: miss("app"),
            cause: comparison(vec![
                Line {
                    difference: difference("extern dep", Class::Extern, Some("1"), Some("2")),
                    because: Some(Box::new(dep)),
                },
                Line { difference: variable, because: None },
            ]),
        };
        let short = Digest::of(b"x").short();
        let expected = format!(
            "\
app was compiled: the variable BUILD_ID is 7; before: none.
app 1.2.3 (lib, build), 2.0s ago: miss
  differs from the nearest earlier result ({short}, 3.0s ago) in
    extern dep
      was 1
      is  2
      because dep 1.2.3 (lib, build) was compiled in the same build:
        differs from the nearest earlier result ({short}, 3.0s ago) in
          file {{ws}}/dep/src/lib.rs
            was aaa
            is  bbb
          and, for the same reason, in extern other
    env BUILD_ID
      was not there
      is  \"7\"
      hint: {}
    and, for the same reason, in extern other
",
            Class::Variable.remedy().expect("there is one")
        );
        assert_eq!(text(&app, &Ui::plain(), 3000), expected);
        let value = json(&app);
        // With nothing of its own, the dependency's reason is the answer.
        let mut only = app.clone();
        if let Cause::Changed(comparison) = &mut only.cause {
            comparison.lines.truncate(1);
        }
        assert_eq!(only.summary(), "app was compiled because dep was: dep/src/lib.rs was changed");
        assert_eq!(json(&only)["root"]["crate"], "dep");
        assert_eq!(value["differences"][0]["because"]["differences"][0]["class"], "file");
        assert_eq!((&value["cause"], &value["differences"][1]["new"]), (&json!("changed"), &json!("\"7\"")));
    }

    #[test]
    fn other_causes_are_sentences_with_a_hint() {
        let mut event = miss("app");
        event.outcome = Outcome::Passthrough;
        event.reason = Some("unknown-flag".into());
        event.detail = Some("unknown compiler flag \"-Zx\"".into());
        for (cause, part) in [
            (Cause::Bypassed, "unknown compiler flag \"-Zx\".\n  hint: leave that flag out"),
            (Cause::FirstSeen(None), "Never seen before"),
            (Cause::FirstSeen(Some("incremental: x".into())), "was not stored: incremental: x"),
            (Cause::Gone(0), "in the store 3.0s ago and was evicted or purged since.\n  hint: "),
            (Cause::AllGone(0), "none is left"),
            (Cause::Unrecorded, "Nothing was kept"),
        ] {
            let shown = text(&Explanation { event: event.clone(), cause }, &Ui::plain(), 3000);
            assert!(shown.contains(part), "{shown}");
        }
    }
}

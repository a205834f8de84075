//! Rules about who may know whom: edges between crates, and between the modules of a crate.

use std::collections::{BTreeMap, BTreeSet};

use crate::none;
use crate::repository::{Source, read, root, sources};

/// Every edge between crates that may exist. Between the engine and the service there is none: they meet as bytes.
const EDGES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("store", &["core"]),
    ("engine", &["store", "core"]),
    ("service", &["store", "core"]),
    ("app", &["engine", "service", "store", "core"]),
    ("testkit", &[]),
];

#[test]
fn crates_depend_downwards_only() {
    let mut violations = Vec::new();
    for item in std::fs::read_dir(root().join("crates")).expect("crates").flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
            violations
                .push(format!("{name}: an unknown crate; add it to the table if the shape really changes"));
            continue;
        };
        for (section, dependency) in dependencies(&read(&format!("crates/{name}/Cargo.toml"))) {
            let is_dev = section == "dev-dependencies";
            if !(allowed.contains(&dependency.as_str()) || is_dev && dependency == "testkit") {
                violations.push(format!("{name} may not depend on {dependency} ([{section}])"));
            }
        }
    }
    none("app -> {service, engine} -> store -> core", violations);
}

/// Sections of a manifest with the crates of this workspace that they name.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if section.ends_with("dependencies")
            && let Some(rest) = line.strip_prefix("kache-")
        {
            let name = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            found.push((section.clone(), name.to_owned()));
        }
    }
    found
}

#[test]
fn modules_form_no_cycles() {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in
        sources().iter().filter(|source| source.path.contains("/src/") && source.krate() != "testkit")
    {
        crates.entry(source.krate()).or_default().push(source);
    }
    let mut violations = Vec::new();
    for (name, sources) in crates {
        for (parent, graph) in sibling_graphs(&sources) {
            if let Some(cycle) = find_cycle(&graph) {
                let parent = if parent.is_empty() { String::new() } else { format!("{parent}::") };
                violations.push(format!("{name}: {parent}{{{}}}", cycle.join(" -> ")));
            }
        }
    }
    none("modules of one parent use each other in one direction only", violations);
}

type Graph = BTreeMap<String, BTreeSet<String>>;

/// For each parent module, which of its children use which others. A child stands for everything below it; what
/// parents and children have with each other is their own business.
fn sibling_graphs(sources: &[&Source]) -> BTreeMap<String, Graph> {
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|source| module_path(&source.path)).collect();
    let mut graphs: BTreeMap<String, Graph> = BTreeMap::new();
    for source in sources {
        let from = module_path(&source.path);
        for to in uses(source.product_code(), &from, &modules) {
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
                let graph = graphs.entry(from[..shared].join("::")).or_default();
                graph.entry(a.clone()).or_default().insert(b.clone());
            }
        }
    }
    graphs
}

/// `crates/core/src/config/env.rs` is `["config", "env"]`.
fn module_path(path: &str) -> Vec<String> {
    let inside = path.split_once("/src/").map_or("", |(_, inside)| inside);
    let mut parts: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("lib" | "main" | "mod")) {
        parts.pop();
    }
    parts
}

/// The modules that a file's code names by `crate::` and `super::` paths.
fn uses(code: &str, from: &[String], modules: &BTreeSet<Vec<String>>) -> Vec<Vec<String>> {
    let flat: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for (at, _) in flat.match_indices("crate::") {
        let before = flat[..at].chars().next_back();
        // `$crate` and `pub(crate)` are followed by no path that matters here.
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            found.extend(targets(&flat[at + 7..], &[], modules));
        }
    }
    for (at, _) in flat.match_indices("super::") {
        let is_first = !flat[..at].ends_with("super::") && !flat[..at].ends_with("self::");
        if is_first && !from.is_empty() {
            let supers = flat[at..].split("super::").take_while(|part| part.is_empty()).count();
            let base = &from[..from.len().saturating_sub(supers)];
            found.extend(targets(&flat[at + 7 * supers..], base, modules));
        }
    }
    found
}

/// The longest modules that the path (or the group of paths) at the beginning of `rest` names below `base`.
fn targets(rest: &str, base: &[String], modules: &BTreeSet<Vec<String>>) -> Vec<Vec<String>> {
    if let Some(group) = rest.strip_prefix('{') {
        let mut found = Vec::new();
        for part in split_group(group) {
            found.extend(targets(part.trim(), base, modules));
        }
        return found;
    }
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut path = base.to_vec();
    path.push(word.clone());
    if word.is_empty() || !modules.iter().any(|module| module.starts_with(&path)) {
        return if base.is_empty() { Vec::new() } else { vec![base.to_vec()] };
    }
    match rest[word.len()..].strip_prefix("::") {
        Some(deeper) => targets(deeper, &path, modules),
        None => vec![path],
    }
}

/// The parts of a `{…}` group whose opening brace is already gone.
fn split_group(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..i]);
                return parts;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts
}

/// A cycle, its first module repeated at the end.
fn find_cycle(graph: &Graph) -> Option<Vec<String>> {
    fn visit(
        graph: &Graph,
        at: &str,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|name| name == at) {
            let mut cycle = path[start..].to_vec();
            cycle.push(at.to_owned());
            return Some(cycle);
        }
        if done.contains(at) {
            return None;
        }
        path.push(at.to_owned());
        let cycle = graph.get(at).into_iter().flatten().find_map(|next| visit(graph, next, path, done));
        path.pop();
        done.insert(at.to_owned());
        cycle
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|name| visit(graph, name, &mut Vec::new(), &mut done))
}

#[test]
fn paths_in_code_lead_to_modules() {
    let modules: BTreeSet<Vec<String>> =
        ["a", "a::b", "a::c", "d"].iter().map(|path| path.split("::").map(str::to_owned).collect()).collect();
    let used = |code: &str, from: &str| -> Vec<String> {
        let from: Vec<String> = from.split("::").map(str::to_owned).collect();
        uses(code, &from, &modules).into_iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(used("use crate::a::{b::X, c, Y}; crate::d::f()", "d"), ["a::b", "a::c", "a", "d"]);
    assert_eq!(used("use super::c::Z; super::super::d::g()", "a::b"), ["a::c", "d"]);
    assert_eq!(used("pub(crate) fn f() {} std::a::x()", "d"), Vec::<String>::new());
}

#[test]
fn cycles_are_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert_eq!(find_cycle(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let cycle = find_cycle(&graph(&[("x", "a"), ("a", "b"), ("b", "a")])).expect("a cycle");
    assert_eq!(cycle, ["a", "b", "a"]);
}

//! Which units of a finished target directory may take over the store's inodes, and with them its canonical times. Pure;
//! the engine observes the units and links the files.
//!
//! A hard link changes a file's time. Cargo compares the times of a unit's outputs with those of its dependencies, and
//! nothing else (see [`crate::plan`]). So a unit may be dated back when no comparison comes out differently:
//!
//! * The unit is fresh by its dependencies now, and none of them is newer than the new time.
//! * Every dependent is fresh by the unit now. One that isn't is dirty only because the unit is newer: it must stay so.
//! * All dependencies are known. A unit with an unknown one may be dirty for a reason that is not seen here.
//!
//! A build script's run stands between its program and what is compiled with its results. Its `output` is no file of the
//! store's: it is dated back as far as its dependents ask, if nothing that the script watches is newer.

/// What may happen to a unit's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// They stay.
    Stay,
    /// All of its outputs are the store's: they would get this time, in nanoseconds since 1970.
    Link(i64),
    /// A run whose `output` may get any time from this one on.
    Back(i64),
}

/// A unit that Cargo has heard of, as it will compare it.
#[derive(Debug, Clone)]
pub struct Node {
    /// The newest output, in nanoseconds since 1970.
    pub newest_ns: i64,
    /// The metadata, where the unit is a library that others are compiled against before it is complete.
    pub metadata_ns: Option<i64>,
    /// Positions of the dependencies; `None` where not all are known.
    pub deps: Option<Vec<usize>>,
    /// What is asked for.
    pub wish: Wish,
}

/// The time that Cargo compares `unit` with: of a dependency's metadata, where the unit itself is built from metadata.
fn compared(unit: &Node, dep: &Node) -> i64 {
    dep.metadata_ns.filter(|_| unit.metadata_ns.is_some()).unwrap_or(dep.newest_ns)
}

/// The units that are dated back and their new times, dependencies before dependents: after each step all that was fresh
/// is still fresh.
pub fn redated(nodes: &[Node]) -> Vec<(usize, i64)> {
    let deps = |i: usize| nodes[i].deps.iter().flatten().copied();
    let order = in_order(nodes);
    let mut held = vec![false; nodes.len()];
    // The earliest time that a dependent asks a run for.
    let mut asked = vec![i64::MAX; nodes.len()];
    for i in order.iter().rev().copied() {
        let wanted = match nodes[i].wish {
            Wish::Stay => i64::MAX,
            Wish::Link(to) => to,
            Wish::Back(_) => asked[i],
        };
        for dep in deps(i) {
            held[dep] |= compared(&nodes[i], &nodes[dep]) > nodes[i].newest_ns;
            asked[dep] = asked[dep].min(wanted);
        }
    }
    let mut now: Vec<i64> = nodes.iter().map(|node| node.newest_ns).collect();
    let mut redated = Vec::new();
    for i in order {
        let node = &nodes[i];
        let to = match node.wish {
            Wish::Link(to) => to,
            Wish::Back(from) if asked[i] >= from => asked[i],
            Wish::Stay | Wish::Back(_) => continue,
        };
        let is_fresh = deps(i).all(|dep| compared(node, &nodes[dep]) <= node.newest_ns && now[dep] <= to);
        if node.deps.is_some() && !held[i] && to <= node.newest_ns && is_fresh {
            now[i] = to;
            redated.push((i, to));
        }
    }
    redated
}

/// Dependencies before dependents. What depends on itself, which Cargo doesn't have, is left out.
fn in_order(nodes: &[Node]) -> Vec<usize> {
    let mut dependents = vec![Vec::new(); nodes.len()];
    let mut waiting_for: Vec<usize> = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let deps = node.deps.as_deref().unwrap_or_default();
        deps.iter().for_each(|dep| dependents[*dep].push(i));
        waiting_for.push(deps.len());
    }
    let mut order: Vec<usize> = (0..nodes.len()).filter(|i| waiting_for[*i] == 0).collect();
    let mut at = 0;
    while let Some(i) = order.get(at).copied() {
        at += 1;
        for dependent in &dependents[i] {
            waiting_for[*dependent] -= 1;
            if waiting_for[*dependent] == 0 {
                order.push(*dependent);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(newest_ns: i64, deps: &[usize], wish: Wish) -> Node {
        Node { newest_ns, metadata_ns: Some(newest_ns - 1), deps: Some(deps.to_vec()), wish }
    }

    fn program(newest_ns: i64, deps: &[usize], wish: Wish) -> Node {
        Node { metadata_ns: None, ..library(newest_ns, deps, wish) }
    }

    /// Whether Cargo takes each unit for fresh by its dependencies, when some have other times.
    fn fresh(nodes: &[Node], redated: &[(usize, i64)]) -> Vec<bool> {
        let mut nodes = nodes.to_vec();
        for (i, to) in redated {
            nodes[*i].newest_ns = *to;
            nodes[*i].metadata_ns = nodes[*i].metadata_ns.map(|_| *to);
        }
        let is_fresh = |node: &Node| {
            node.deps.iter().flatten().all(|dep| compared(node, &nodes[*dep]) <= node.newest_ns)
        };
        nodes.iter().map(is_fresh).collect()
    }

    /// Names of nodes are their positions. 0 is a library, 1 uses it, 2 is a program that uses both.
    #[test]
    fn the_table_of_cases() {
        use Wish::{Back, Link, Stay};
        let chain = |zero: Wish, one: Wish| {
            vec![library(100, &[], zero), library(200, &[0], one), program(300, &[0, 1], Stay)]
        };
        let mut early = chain(Link(10), Link(11));
        early[1].newest_ns = 100;
        early[0] = Node { newest_ns: 150, metadata_ns: Some(90), ..early[0].clone() };
        let mut unknown = chain(Link(10), Link(11));
        unknown[1].deps = None;
        let mut dirty = chain(Link(10), Link(11));
        dirty[2].newest_ns = 150;
        let run = |wish: Wish, script: Wish| {
            vec![program(50, &[], script), program(60, &[0], wish), library(100, &[1], Link(12))]
        };
        let cases = [
            ("both", chain(Link(10), Link(11)), vec![(0, 10), (1, 11)]),
            ("a dependency that stays is newer than the new time", chain(Stay, Link(11)), vec![]),
            ("a dependent that stays is newer anyway", chain(Link(10), Stay), vec![(0, 10)]),
            ("a time in the future", chain(Link(101), Stay), vec![]),
            ("times of the store in another order", chain(Link(12), Link(11)), vec![(0, 12)]),
            ("compiled against metadata, before the library was there", early, vec![(0, 10), (1, 11)]),
            ("a dependency that is not known", unknown, vec![(0, 10)]),
            ("the program is dirty by what it uses", dirty, vec![(0, 10)]),
            ("a run is dated back with its program", run(Back(0), Link(11)), vec![(0, 11), (1, 12), (2, 12)]),
            ("the program of a run is newer", run(Back(0), Stay), vec![]),
            ("a run watches something newer", run(Back(13), Link(11)), vec![(0, 11)]),
        ];
        for (what, nodes, want) in cases {
            assert_eq!(redated(&nodes), want, "{what}");
            for steps in 0..=want.len() {
                assert_eq!(fresh(&nodes, &want[..steps]), fresh(&nodes, &[]), "{what}, after {steps}");
            }
        }
    }

    /// Whatever the times and wishes are, what Cargo takes for fresh stays fresh and what is dirty stays dirty.
    #[test]
    fn no_comparison_comes_out_differently() {
        let mut state = 7u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let mut moved = 0;
        for _ in 0..20_000 {
            let count = 2 + below(5) as usize;
            let nodes: Vec<Node> = (0..count)
                .map(|i| {
                    let newest_ns = 100 + below(6) as i64 + 4 * i as i64;
                    let to = 10 + below(4) as i64 + 2 * i as i64;
                    Node {
                        newest_ns,
                        metadata_ns: (below(3) > 0).then(|| newest_ns - below(4) as i64),
                        deps: (below(12) > 0).then(|| (0..i).filter(|_| below(2) == 0).collect()),
                        wish: [Wish::Stay, Wish::Link(to), Wish::Link(to), Wish::Back(to)][below(4) as usize],
                    }
                })
                .collect();
            let all = redated(&nodes);
            for steps in 0..=all.len() {
                assert_eq!(fresh(&nodes, &all[..steps]), fresh(&nodes, &[]), "{nodes:#?} {all:?}");
            }
            moved += all.len();
        }
        assert!(moved > 10_000, "{moved}");
    }
}

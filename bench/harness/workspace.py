"""A generated workspace for bench/edit-loop: six members, no dependency from outside, a second or so of compiling each.

    base ◄── text ◄──┐
      ▲ ◄── model ◄──┼── engine ◄── app (binary)
      └──── store ◄──┘

`base` is below everything and `app` on top. Each has one line with a number for the benchmark to change; the program
prints both numbers, so that every build can be checked for having taken the change in.
"""

from pathlib import Path

MEMBERS: dict[str, list[str]] = {
    "base": [],
    "text": ["base"],
    "model": ["base"],
    "store": ["base"],
    "engine": ["text", "model", "store"],
    "app": ["base", "engine"],
}

MANIFEST = """[package]
name = "{name}"
version = "0.1.0"
edition = "2021"

[dependencies]
{dependencies}
"""

# Types, trait implementations, generics and loops: work for every stage of the compiler.
BLOCK = """
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record{n} {{
    pub id: u64,
    pub name: String,
    pub parts: Vec<u32>,
}}

impl Record{n} {{
    pub fn grow(&mut self, by: u32) -> Result<usize, String> {{
        if by > 1_000_000 {{
            return Err(format!("{{}} can't grow by {{by}}", self.name));
        }}
        let mut table: std::collections::BTreeMap<u32, String> = std::collections::BTreeMap::new();
        for part in self.parts.iter().chain(std::iter::once(&by)).filter(|part| **part % {odd} != 0) {{
            table.entry(part / 3).or_default().push_str(&part.to_string());
        }}
        self.parts.extend(table.keys().map(|key| key.wrapping_mul({odd})));
        self.id = self.id.rotate_left({n} % 64) ^ u64::from(by);
        Ok(table.values().map(String::len).sum())
    }}
}}

pub fn total{n}<T: Clone + Into<u64>>(items: &[T]) -> u64 {{
    items.iter().cloned().map(Into::into).fold({odd}, |sum: u64, item| sum.wrapping_mul(31).wrapping_add(item))
}}
"""


def generate(root: Path, blocks: int) -> None:
    """Writes the workspace; `blocks` says how much code each member has."""
    root.mkdir(parents=True)
    members = ", ".join(f'"{name}"' for name in MEMBERS)
    (root / "Cargo.toml").write_text(f'[workspace]\nresolver = "2"\nmembers = [{members}]\n')
    for name, dependencies in MEMBERS.items():
        (root / name / "src").mkdir(parents=True)
        lines = "\n".join(f'{other} = {{ path = "../{other}" }}' for other in dependencies)
        (root / name / "Cargo.toml").write_text(MANIFEST.format(name=name, dependencies=lines))
        write_source(root, name, blocks)


def source_of(root: Path, name: str) -> Path:
    return root / name / "src" / ("main.rs" if name == "app" else "lib.rs")


def write_source(root: Path, name: str, blocks: int) -> None:
    calls = "".join(f" + {other}::work(seed)" for other in MEMBERS[name])
    uses = "".join(f" + total{n}(&[seed as u32])" for n in range(blocks))
    code = number_line(0) + "\n"
    code += f"pub fn work(seed: u64) -> u64 {{\n    (seed{calls}{uses}) % 1_000_003\n}}\n".replace(" + ", "\n        ^ ")
    if name == "app":
        code = "#![allow(dead_code)]\n" + code
        code += 'fn main() {\n    println!("{} {} {}", base::number(), number(), work(7));\n}\n'
    code += "".join(BLOCK.format(n=n, odd=2 * n + 3) for n in range(blocks))
    source_of(root, name).write_text(code)


def number_line(number: int) -> str:
    return f"pub fn number() -> u64 {{ {number} }} // The line that is edited."


def edit(root: Path, name: str, number: int) -> None:
    """Changes one line of a member, in place, as an editor would."""
    source = source_of(root, name)
    lines = source.read_text().split("\n")
    at = next(index for index, line in enumerate(lines) if line.startswith("pub fn number()"))
    lines[at] = number_line(number)
    source.write_text("\n".join(lines))

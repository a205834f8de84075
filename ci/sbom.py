"""Bill of materials of the program for a target, as CycloneDX JSON: what Cargo.lock names, with checksums and licences."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def metadata(target: str) -> dict:
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def closure(root: str, nodes: dict) -> set:
    """Packages that end up in the program, or make it: all but the dependencies of tests."""
    found, todo = set(), [root]
    while todo:
        package = todo.pop()
        if package not in found:
            found.add(package)
            for dep in nodes[package]["deps"]:
                if any(kind["kind"] != "dev" for kind in dep["dep_kinds"]):
                    todo.append(dep["pkg"])
    return found


def component(package: dict, checksums: dict) -> dict:
    name, version = package["name"], package["version"]
    found = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
        "licenses": [{"expression": (package["license"] or "NOASSERTION").replace("/", " OR ")}],
    }
    if checksum := checksums.get((name, version)):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def main(target: str) -> None:
    meta = metadata(target)
    packages = {package["id"]: package for package in meta["packages"]}
    nodes = {node["id"]: node for node in meta["resolve"]["nodes"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock}
    is_program = lambda package: any("bin" in t["kind"] and t["name"] == "kache" for t in package["targets"])
    root = next(i for i in meta["workspace_members"] if is_program(packages[i]))
    components = [component(packages[i], checksums) for i in closure(root, nodes) - {root}]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {**component(packages[root], checksums), "type": "application"},
            "properties": [{"name": "target", "value": target}],
        },
        "components": sorted(components, key=lambda c: (c["name"], c["version"])),
    }
    print(json.dumps(document, indent=1))


main(sys.argv[1])

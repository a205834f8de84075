"""Real crates whose scripts and macros read something: what a small project does with each, and what is then changed."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import sealed


@dataclass
class Place:
    """What a case may change: each project directory, a directory outside of all of them, and the environment."""

    projects: list[Path]
    outside: Path
    env: dict[str, str]

    def write(self, name: str, text: str) -> None:
        """In every project."""
        for project in self.projects:
            put(project / name, text)

    def program(self, name: str, script: str) -> None:
        """A shell script that stands first on PATH. `REAL` in it is the program that it stands for."""
        path = self.outside / "bin" / name
        real = shutil.which(name, path=os.environ["PATH"]) or f"/usr/bin/{name}"
        put(path, "#!/bin/sh\n" + script.replace("REAL", real) + "\n")
        path.chmod(0o755)


@dataclass
class Change:
    what: str
    act: Callable[[Place], None]
    # Whether Cargo hears of it, so that a used target directory has to be right, too.
    is_declared: bool


@dataclass
class Case:
    name: str
    manifest: str
    files: dict[str, str]
    changes: list[Change]
    prepare: Callable[[Place], None] = lambda place: None
    # Compiles and runs of scripts that a second checkout has to do, and why.
    excused: tuple[int, int, str] = (0, 0, "")


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def commit(place: Place, message: str) -> None:
    who = {"NAME": "a", "EMAIL": "a@example.org", "DATE": "2026-01-01T00:00:00Z"}
    env = place.env | {f"GIT_{role}_{name}": value for role in ("AUTHOR", "COMMITTER") for name, value in who.items()}
    for project in place.projects:
        for command in (["init", "--quiet", "-b", "main"], ["add", "src", "build.rs", "Cargo.toml"],
                        ["commit", "--quiet", "--allow-empty", "-m", message]):  # fmt: skip
            subprocess.run(["git", *command], cwd=project, env=env, check=True)


def table(place: Place, kind: str) -> None:
    for project in place.projects:
        (project / "dev.db").unlink(missing_ok=True)
        with sqlite3.connect(project / "dev.db") as database:
            database.execute(f"create table users (id integer not null primary key, score {kind} not null)")
            database.execute("insert into users values (1, 7)")


def libclang(place: Place) -> None:
    """bindgen loads this library; PyPI has one."""
    home = sealed.REPO / "target" / "libclang"
    if not list(home.rglob("libclang.so")):
        subprocess.run(["python3", "-m", "pip", "install", "--quiet", "--target", home, "libclang==18.1.1"], check=True)
    place.env["LIBCLANG_PATH"] = str(next(home.rglob("libclang.so")).parent)
    # That library comes without the compiler's own headers.
    place.env["BINDGEN_EXTRA_CLANG_ARGS"] = "-nostdinc"
    put(place.outside / "include" / "thing.h", "#define THING 1\n")
    place.env["CPATH"] = str(place.outside / "include")


CASES = [
    Case(
        "rust-embed",
        'rust-embed = { version = "8", features = ["debug-embed"] }',
        {
            "src/main.rs": """#[derive(rust_embed::RustEmbed)]
#[folder = "assets/"]
struct Assets;
fn main() {
    for name in Assets::iter() {
        println!("{name}: {}", String::from_utf8_lossy(&Assets::get(&name).unwrap().data));
    }
}
""",
            "assets/one.txt": "one",
        },
        [
            Change("a file of the folder", lambda place: place.write("assets/one.txt", "other"), True),
            Change("a file more in the folder", lambda place: place.write("assets/two.txt", "two"), False),
        ],
        excused=(1, 0, "the macro puts the folder's path into the program"),
    ),
    Case(
        "askama",
        'askama = "0.14"',
        {
            "src/main.rs": """use askama::Template;
#[derive(Template)]
#[template(path = "page.txt")]
struct Page { name: &'static str }
fn main() { println!("{}", Page { name: "you" }.render().unwrap()); }
""",
            "templates/page.txt": "{% include \"greeting.txt\" %}, {{ name }}",
            "templates/greeting.txt": "hello",
        },
        [
            Change("a template", lambda place: place.write("templates/page.txt", '{% include "greeting.txt" %}: {{ name }}'), True),
            Change("an included template", lambda place: place.write("templates/greeting.txt", "good day"), True),
        ],
    ),
    Case(
        "prost",
        'prost = "0.14"\n[build-dependencies]\nprost-build = "0.14"\nprotoc-bin-vendored = "3"',
        {
            "build.rs": """fn main() {
    let mut config = prost_build::Config::new();
    config.protoc_executable(protoc_bin_vendored::protoc_bin_path().unwrap());
    let outside = std::env::var("PROTOS").unwrap();
    println!("cargo::rerun-if-changed=build.rs");
    config.compile_protos(&["thing.proto"], &[".", &outside]).unwrap();
}
""",
            "src/main.rs": """mod thing { include!(concat!(env!("OUT_DIR"), "/thing.rs")); }
mod common { include!(concat!(env!("OUT_DIR"), "/common.rs")); }
fn main() { println!("{:?}", thing::Thing::default()); println!("{:?}", common::Common::default()); }
""",
            "thing.proto": 'syntax = "proto3"; package thing; import "common.proto"; message Thing { string name = 1; common.Common c = 2; }',
        },
        [
            Change(
                "a message that the other file imports, outside",
                lambda place: put(place.outside / "protos/common.proto", 'syntax = "proto3"; package common; message Common { int32 other = 1; }'),
                False,
            )
        ],
        lambda place: (
            place.env.update(PROTOS=str(place.outside / "protos")),
            put(place.outside / "protos/common.proto", 'syntax = "proto3"; package common; message Common { int32 some = 1; }'),
        ),
    ),
    Case(
        "bindgen",
        '[build-dependencies]\nbindgen = "0.72"',
        {
            "build.rs": """fn main() {
    println!("cargo::rerun-if-changed=wrapper.h");
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap()).join("b.rs");
    bindgen::Builder::default().header("wrapper.h").generate().unwrap().write_to_file(out).unwrap();
}
""",
            "src/main.rs": 'include!(concat!(env!("OUT_DIR"), "/b.rs"));\nfn main() { println!("{THING}"); }\n',
            "wrapper.h": "#include <thing.h>\n",
        },
        [
            Change("a header outside, found through CPATH", lambda place: put(place.outside / "include/thing.h", "#define THING 22\n"), False),
            Change(
                "CPATH",
                lambda place: (
                    put(place.outside / "include2/thing.h", "#define THING 333\n"),
                    place.env.update(CPATH=str(place.outside / "include2")),
                ),
                False,
            ),
        ],
        libclang,
    ),
    Case(
        "cxx",
        'cxx = "1"\n[build-dependencies]\ncxx-build = "1"',
        {
            "build.rs": """fn main() {
    println!("cargo::rerun-if-changed=src/main.rs");
    cxx_build::bridge("src/main.rs").include("include").std("c++17").compile("bridge");
}
""",
            "src/main.rs": """#[cxx::bridge]
mod ffi { unsafe extern "C++" { include!("answer.h"); fn answer() -> i32; } }
fn main() { println!("{}", ffi::answer()); }
""",
            "include/answer.h": '#pragma once\n#include "number.h"\ninline int answer() { return NUMBER; }\n',
            "include/number.h": "#define NUMBER 42\n",
        },
        [
            Change("a header that a header includes", lambda place: place.write("include/number.h", "#define NUMBER 43\n"), False),
            Change("`c++`, another script", lambda place: place.program("c++", 'exec REAL -DNUMBER2 "$@"') or place.write("include/number.h", "#ifdef NUMBER2\n#define NUMBER 7\n#else\n#define NUMBER 8\n#endif\n"), False),
        ],
        lambda place: place.program("c++", 'exec REAL "$@"'),
    ),
    Case(
        "vergen",
        '[build-dependencies]\nvergen-gitcl = { version = "1", features = ["build"] }',
        {
            "build.rs": """fn main() {
    let git = vergen_gitcl::GitclBuilder::default().sha(true).commit_message(true).build().unwrap();
    vergen_gitcl::Emitter::default().add_instructions(&git).unwrap().emit().unwrap();
}
""",
            "src/main.rs": 'fn main() { println!("{} {}", env!("VERGEN_GIT_SHA"), env!("VERGEN_GIT_COMMIT_MESSAGE")); }\n',
        },
        [Change("a commit more", lambda place: commit(place, "second"), True)],
        lambda place: commit(place, "first"),
    ),
    Case(
        "libsqlite3-sys",
        'libsqlite3-sys = { version = "0.35", features = ["bundled"] }',
        {
            "src/main.rs": """fn main() {
    for i in 0.. {
        let option = unsafe { libsqlite3_sys::sqlite3_compileoption_get(i) };
        if option.is_null() { return }
        println!("{}", unsafe { std::ffi::CStr::from_ptr(option) }.to_string_lossy());
    }
}
"""
        },
        [
            Change("`cc`, another script", lambda place: place.program("cc", 'exec REAL -DSQLITE_IGNORE_AFP_LOCK_ERRORS "$@"'), False),
            Change("LIBSQLITE3_FLAGS", lambda place: place.env.update(LIBSQLITE3_FLAGS="-DSQLITE_IGNORE_FLOCK_LOCK_ERRORS"), True),
        ],
        lambda place: place.program("cc", 'exec REAL "$@"'),
    ),
    Case(
        "openssl-sys, the system's",
        'openssl-sys = "0.9"',
        {
            "build.rs": 'fn main() { println!("cargo::rustc-env=V={}", std::env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap()); }\n',
            "src/main.rs": 'use openssl_sys as _;\nfn main() { println!("{}", env!("V")); }\n',
        },
        [
            Change(
                "`pkg-config`, another script, and other headers",
                lambda place: (
                    put(place.outside / "ssl/openssl/opensslconf.h", ""),
                    put(place.outside / "ssl/openssl/opensslv.h", "#define OPENSSL_VERSION_NUMBER 0x1010107fL\n"),
                    place.program("pkg-config", f'case "$*" in *--modversion*) exec REAL "$@";; *) echo "-I{place.outside}/ssl -lssl -lcrypto";; esac'),
                ),
                False,
            )
        ],
        lambda place: place.program("pkg-config", 'exec REAL "$@"'),
    ),
    Case(
        "openssl-sys, vendored",
        'openssl = { version = "0.10", features = ["vendored"] }',
        {"src/main.rs": 'fn main() { println!("{} {}", openssl::version::c_flags(), openssl::version::built_on()); }\n'},
        [Change("SOURCE_DATE_EPOCH, which a Perl script reads", lambda place: place.env.update(SOURCE_DATE_EPOCH="86400"), False)],
        lambda place: place.env.update(SOURCE_DATE_EPOCH="0"),
    ),
    Case(
        "pyo3",
        'pyo3 = { version = "0.26", features = ["extension-module"] }\n[build-dependencies]\npyo3-build-config = { version = "0.26", features = ["resolve-config"] }',
        {
            "build.rs": 'fn main() { println!("cargo::rustc-env=V={}", pyo3_build_config::get().version); }\n',
            "src/main.rs": 'use pyo3 as _;\nfn main() { println!("{}", env!("V")); }\n',
        },
        [
            Change(
                "`python3`, another script",
                lambda place: [place.program(name, "REAL \"$@\" | sed 's/^version_minor .*/version_minor 10/'") for name in ("python", "python3")],
                False,
            )
        ],
        lambda place: [place.program(name, 'exec REAL "$@"') for name in ("python", "python3")],
    ),
    Case(
        "sqlx",
        'sqlx = { version = "0.8", default-features = false, features = ["macros", "sqlite", "runtime-tokio"] }\ntokio = { version = "1", features = ["rt"] }',
        {
            ".env": "DATABASE_URL=sqlite:dev.db\n",
            "src/main.rs": """use sqlx::Connection;
fn kind<T>(_: &T) -> &'static str { std::any::type_name::<T>() }
fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut database = sqlx::SqliteConnection::connect("sqlite:dev.db").await.unwrap();
        let row = sqlx::query!("select score from users").fetch_one(&mut database).await.unwrap();
        println!("{}", kind(&row.score));
    });
}
""",
        },
        [Change("the type of a column in the database", lambda place: table(place, "text"), False)],
        lambda place: table(place, "integer"),
    ),
]

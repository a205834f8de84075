//! CI jobs on fresh machines that share only the saved directory: the steps of `action.yml` by a small runner, the template
//! for GitLab, and the examples of the guide, as they stand there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Home;
use crate::ci::{read, root, text};

/// One step of a composite action.
#[derive(Debug, Default)]
struct Step {
    condition: String,
    run: String,
    env: Vec<(String, String)>,
}

/// The steps of `action.yml`, as far as it uses YAML.
fn steps(action: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let list = action.split("\n  steps:\n").nth(1).expect("steps");
    for line in list.lines() {
        if line.starts_with("    - ") {
            steps.push(Step::default());
        }
        let step = steps.last_mut().expect("a step");
        let Some((key, value)) = line.trim_start().trim_start_matches("- ").split_once(": ") else {
            continue;
        };
        let quoted = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        let value = quoted.unwrap_or(value).to_owned();
        match key {
            "if" => step.condition = value,
            "run" => step.run = value,
            name if name.starts_with("INPUT_") => step.env.push((name.to_owned(), value)),
            _ => {}
        }
    }
    steps
}

/// A machine that has kache, Cargo and a small project, and the variables of a job.
pub struct Machine {
    pub home: Home,
    pub env: Vec<(String, String)>,
}

impl Machine {
    pub fn new(variables: &[(&str, &str)]) -> Self {
        let home = Home::new();
        for dir in ["bin", "tmp"] {
            std::fs::create_dir_all(home.path(dir)).expect("directory");
        }
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kache"), home.path("bin/kache")).expect("link");
        let package =
            |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        let app = format!("{}[dependencies]\ndep = {{ path = \"dep\" }}\n[workspace]\n", package("app"));
        home.write("work/Cargo.toml", &app);
        home.write("work/src/main.rs", "fn main() { println!(\"{}\", dep::f()) }\n");
        home.write("work/dep/Cargo.toml", &package("dep"));
        home.write("work/dep/src/lib.rs", "pub fn f() -> u8 { 7 }\n");
        let lock = "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"dep\",\n]\n\n\
                    [[package]]\nname = \"dep\"\nversion = \"0.1.0\"\n";
        home.write("work/Cargo.lock", lock);
        let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").expect("PATH"));
        let mut env: Vec<(String, String)> =
            vec![("HOME".into(), home.path("").display().to_string()), ("PATH".into(), path)];
        for name in ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            env.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        if std::env::var_os("RUSTUP_HOME").is_none() {
            env.push((
                "RUSTUP_HOME".into(),
                format!("{}/.rustup", std::env::var("HOME").unwrap_or_default()),
            ));
        }
        env.push(("CARGO_NET_OFFLINE".into(), "true".into()));
        env.push(("RUNNER_TEMP".into(), home.path("tmp").display().to_string()));
        for (name, file) in
            [("ENV", "env"), ("PATH", "path"), ("OUTPUT", "output"), ("STEP_SUMMARY", "summary.md")]
        {
            env.push((format!("GITHUB_{name}"), home.write(file, "").display().to_string()));
        }
        env.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { home, env }
    }

    /// Variables that GitHub gives to a job, each of which is another one.
    fn of_github(event: &str, branch: &str) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(1);
        let run = RUNS.fetch_add(1, Ordering::Relaxed).to_string();
        let branch = format!("refs/heads/{branch}");
        Self::new(&[
            ("GITHUB_EVENT_NAME", event),
            ("GITHUB_REF", &branch),
            ("GITHUB_RUN_ID", &run),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_JOB", "build"),
        ])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    /// Runs a script in the project, as a step of a job.
    pub fn run(&self, script: &str, more: &[(String, String)]) -> String {
        let mut command = Command::new("bash");
        command.args(["-e", "-c", script]).current_dir(self.path("work")).env_clear();
        let variables = self.env.iter().chain(more).map(|(name, value)| (name, value));
        let output = command.envs(variables).output().expect("bash");
        let said = [text(&output.stdout), text(&output.stderr)].concat();
        assert!(output.status.success(), "{script}: {said}");
        said
    }

    /// Runs what the action runs `at` one end of a job; variables for later steps are added, outputs come back.
    fn action(&mut self, at: &str, inputs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let yaml = read("action.yml");
        let condition = format!("inputs.at == '{at}'");
        let all = steps(&yaml);
        let its: Vec<&Step> =
            all.iter().filter(|step| step.condition == condition && !step.run.is_empty()).collect();
        let [step] = its[..] else { panic!("one step does the work at {at}") };
        let mut env = vec![("GITHUB_ACTION_PATH".to_owned(), root().display().to_string())];
        for (name, expression) in &step.env {
            let input = expression.trim_start_matches("${{ inputs.").trim_end_matches(" }}");
            assert!(yaml.contains(&format!("\n  {input}:\n")), "{expression} is no input");
            let value = inputs.iter().find(|(name, _)| *name == input).map_or("", |(_, value)| value);
            env.push((name.clone(), value.to_owned()));
        }
        for name in ["env", "path", "output"] {
            self.home.write(name, "");
        }
        self.run(&step.run, &env);
        let pairs = |file: &str| -> Vec<(String, String)> {
            let file = self.home.read(file);
            file.lines().filter_map(|line| line.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect()
        };
        let (added, outputs) = (pairs("env"), pairs("output"));
        self.env.extend(added);
        outputs.into_iter().collect()
    }
}

/// A job on a fresh machine with the action around the build; the JSON report and whether the store is saved come back.
fn job(saved: &Path, event: &str, branch: &str, size: &str) -> (serde_json::Value, bool, String) {
    let mut machine = Machine::of_github(event, branch);
    let store = machine.path("store").display().to_string();
    if saved.exists() {
        copy(saved, &machine.path("store"));
    }
    let inputs = [("store", store.as_str()), ("save", "main"), ("max-size", size), ("max-age", "7d")];
    let begun = machine.action("start", &inputs);
    machine.run("cargo build --locked", &[]);
    let ended = machine.action("end", &inputs);
    assert_eq!(begun["save"], ended["save"]);
    let report = std::fs::read_to_string(&ended["report"]).expect("a report");
    let save = ended["save"] == "true";
    if save {
        replace(saved, &machine.path("store"));
    }
    (serde_json::from_str(&report).expect("JSON"), save, machine.home.read("summary.md"))
}

fn replace(saved: &Path, store: &Path) {
    let _ = std::fs::remove_dir_all(saved);
    copy(store, saved);
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()));
}

/// The gate that the guide shows.
fn gate(report: &serde_json::Value) -> bool {
    let guide = read("docs/guide/ci.md");
    assert!(guide.contains("'.served.share == null or .served.share > 0.5'"), "the gate is another");
    report["served"]["share"].as_f64().is_none_or(|share| share > 0.5)
}

/// What a directory occupies, in KiB.
fn disk_kib(dir: &Path) -> u64 {
    let output = Command::new("du").arg("-sk").arg(dir).output().expect("du");
    text(&output.stdout).split_whitespace().next().and_then(|size| size.parse().ok()).expect("a size")
}

#[test]
fn jobs_that_share_only_the_saved_directory() {
    let shared = tempfile::tempdir().expect("directory");
    let saved = shared.path().join("saved");
    let (first, save, summary) = job(&saved, "push", "main", "1GiB");
    assert!(save && !gate(&first), "{first:#}");
    assert!(summary.contains("**Served 0 of 2 compiles.**"), "{summary}");
    // A pull request is served, and what it builds is saved by nobody.
    let (second, save, summary) = job(&saved, "pull_request", "main", "1GiB");
    assert!(!save && gate(&second), "{second:#}");
    assert!(summary.contains("**Served 2 of 2 compiles, saved about "), "{summary}");
    assert!(summary.contains("This job, until "), "{summary}");
    let (_, save, _) = job(&saved, "push", "topic", "1GiB");
    assert!(!save, "another branch reads only");
    // Only this job is told of, though the journal came with the store.
    let (fourth, save, _) = job(&saved, "push", "main", "1GiB");
    assert_eq!((save, &fourth["served"]["compiles_of"]), (true, &2.into()), "{fourth:#}");
    // The limit bounds what is saved, though all of it was used just now and is linked into the target directory.
    let whole_kib = disk_kib(&saved);
    let limit_kib = whole_kib - 100;
    job(&saved, "push", "main", &format!("{limit_kib}KiB"));
    assert!(disk_kib(&saved) <= limit_kib, "{} of {limit_kib}", disk_kib(&saved));
}

/// Items of the lists with this name, in a part of a YAML file.
fn items(yaml: &str, list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut within = None;
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() == format!("{list}:") {
            within = Some(indent);
        } else if let Some(item) = line.trim_start().strip_prefix("- ").filter(|_| within.is_some()) {
            found.push(item.to_owned());
        } else if within.is_some_and(|begun| indent <= begun) && !line.trim().is_empty() {
            within = None;
        }
    }
    found
}

/// Names and values below this name, with GitHub's and GitLab's name for the project's directory replaced.
fn mapping(yaml: &str, name: &str, project: &Path) -> Vec<(String, String)> {
    let begun = yaml.split(&format!("{name}:\n")).nth(1).unwrap_or_default();
    let indent = begun.len() - begun.trim_start().len();
    let its = begun.lines().take_while(|line| line.len() - line.trim_start().len() == indent);
    let project = project.display().to_string();
    let pairs = its.filter_map(|line| line.trim().split_once(": "));
    pairs
        .map(|(name, value)| {
            let value =
                value.replace("${{ github.workspace }}", &project).replace("$CI_PROJECT_DIR", &project);
            (name.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}

/// A block of the guide's page that has this text in it.
fn block(part: &str) -> String {
    let guide = read("docs/guide/ci.md");
    let mut blocks = guide.split("```").skip(1).step_by(2);
    blocks.find(|block| block.contains(part)).unwrap_or_else(|| panic!("no example has {part}")).to_owned()
}

/// Two jobs on fresh machines run these steps; what the second one says of itself comes back from `report`.
fn two_jobs(
    variables: impl Fn(&Path) -> Vec<(String, String)>,
    steps: &[String],
    report: &str,
    is_saved: bool,
) -> String {
    let shared = tempfile::tempdir().expect("directory");
    let mut said = Vec::new();
    for number in ["1", "2"] {
        let machine = Machine::new(&[("CI_JOB_ID", number)]);
        let project = machine.path("work");
        let store = project.join(".kache-store");
        if is_saved && number == "2" {
            copy(shared.path().join("saved").as_path(), &store);
        }
        let env = variables(&project);
        for step in steps {
            machine.run(step, &env);
        }
        said.push(std::fs::read_to_string(machine.path(report)).expect("a report"));
        if is_saved && number == "1" {
            copy(&store, &shared.path().join("saved"));
        }
    }
    assert!(said[0].contains("Served 0 of ") && !said[1].contains("Served 0 of "), "{said:?}");
    said.remove(1)
}

/// What was asked for was served.
fn all_served(said: &str) -> bool {
    let words: Vec<&str> = said.split("Served ").nth(1).unwrap_or_default().split(' ').collect();
    words.len() > 2 && words[0] == words[2]
}

#[test]
fn githubs_example_written_out() {
    let yaml = block("Restore the store");
    let runs =
        yaml.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("run: "));
    let runs: Vec<String> = runs.map(str::to_owned).collect();
    assert!(runs.len() == 4 && runs[0].starts_with("cargo build"), "{runs:?}");
    let said = two_jobs(|project| mapping(&yaml, "env", project), &runs, "summary.md", true);
    assert!(all_served(&said), "{said}");
}

#[test]
fn gitlabs_example_and_template() {
    let yaml = block("image: rust");
    let example = [items(&yaml, "script"), items(&yaml, "after_script")].concat();
    assert_eq!(example.len(), 4, "{example:?}");
    let said = two_jobs(|project| mapping(&yaml, "variables", project), &example, "work/kache.md", true);
    assert!(all_served(&said), "{said}");
    let template = read("ci/gitlab.yml");
    let mut steps = items(&template, "before_script");
    steps.push("cargo build --locked".to_owned());
    steps.extend(items(&template, "after_script"));
    let said = two_jobs(|project| mapping(&template, "variables", project), &steps, "work/kache.json", true);
    assert!(all_served(&said), "{said}");
}

#[test]
fn the_examples_for_any_other_service() {
    let plain = block("/var/cache/kache").replace("/var/cache/kache", "$PWD/.kache-store");
    let plain = plain.trim_start_matches("sh\n");
    let said = two_jobs(|_| Vec::new(), &[plain.to_owned()], "work/kache.json", true);
    assert!(all_served(&said), "{said}");
    let set_up = plain.lines().next().expect("variables");
    let marked = [set_up, block("KACHE_JOB=").trim_start_matches("sh\n")].join("\n");
    let said = two_jobs(|_| Vec::new(), &[marked], "work/kache.md", true);
    assert!(all_served(&said), "{said}");
}

#[test]
fn the_example_with_a_bucket() {
    let server = kache_testkit::S3::start();
    let yaml = block("kache sync --pull");
    let runs =
        yaml.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("run: "));
    let mut runs: Vec<String> = runs.map(str::to_owned).collect();
    assert!(runs.len() == 4 && runs[3].starts_with("kache sync --push"), "{runs:?}");
    runs.push("kache report --job --format markdown --output kache.md".to_owned());
    let variables = |project: &Path| {
        let store = project.join(".kache-store").display().to_string();
        let set = [
            ("RUSTC_WRAPPER", "kache"),
            ("CARGO_INCREMENTAL", "0"),
            ("KACHE_DAEMON", "0"),
            ("KACHE_CACHE_DIR", &store),
        ];
        let own = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        own.chain(server.env().into_iter().map(|(name, value)| (name.to_owned(), value))).collect()
    };
    let said = two_jobs(variables, &runs, "work/kache.md", false);
    assert!(all_served(&said), "{said}");
}

/// The program that a release has for Linux needs nothing of the system's, and serves builds there. `.ci/run` builds it, and
/// says where it is.
#[cfg(target_os = "linux")]
#[test]
fn a_static_program_serves_builds() {
    let Ok(program) = std::env::var("KACHE_TEST_STATIC") else {
        return eprintln!("skipped, KACHE_TEST_STATIC names no program");
    };
    let bytes = std::fs::read(&program).expect("the program");
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    // Kinds of an ELF program's segments; 3 is the path of a loader of shared libraries.
    let segments = (0..number(56, 2)).map(|i| number(number(32, 8) + i * number(54, 2), 4));
    assert!(segments.clone().count() > 2 && !segments.clone().any(|kind| kind == 3), "it is not static");
    let machine = Machine::new(&[]);
    std::fs::remove_file(machine.path("bin/kache")).expect("removed");
    std::os::unix::fs::symlink(&program, machine.path("bin/kache")).expect("link");
    machine.run("RUSTC_WRAPPER=kache cargo build && rm -r target", &[]);
    let said = machine.run("RUSTC_WRAPPER=kache cargo build && kache stats --last-build", &[]);
    assert!(said.contains("Served 2 of 2 compiles"), "{said}");
    let said = machine.run("kache doctor || [ $? = 3 ]", &[]);
    assert!(said.contains("variables that compiles use are observed"), "{said}");
}

#[test]
fn a_job_that_has_no_mark_is_told_how_to_set_one() {
    let home = Home::new();
    let ran = home.kache(&["report", "--job"]);
    assert!(ran.code == 2 && ran.err.contains("KACHE_JOB"), "{ran:?}");
    assert_eq!(home.kache_with(&["stats", "--job"], &[("KACHE_JOB", "nightly")]).code, 0);
}

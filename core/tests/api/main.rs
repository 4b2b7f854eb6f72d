//! The public API as users of the crate see it, compiled and documented without features.
//!
//! Misuse that safe code must not compile: each file in `cases` is compiled twice against the crate
//! without features, as its users do: with the misuse, which must fail, and without it, which must compile.
//!
//! In a case, `//~ E0277` ends a line of the misuse and names the expected error. `//= ` begins a line that replaces it
//! in the program that compiles. Both programs therefore differ only by the misuse, so the failure has no other reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Line and code of an error.
type Errors = BTreeSet<(usize, String)>;

/// Split a case into the misuse, the program that compiles, and the errors of the misuse.
fn halves(text: &str) -> (String, String, Errors) {
    let (mut wrong, mut right, mut errors) = (String::new(), String::new(), Errors::new());
    for (n, row) in text.lines().enumerate() {
        let (in_wrong, in_right) = if let Some((code, error)) = row.split_once("//~ ") {
            errors.insert((n + 1, error.trim().to_owned()));
            (code, "")
        } else if let Some(code) = row.trim_start().strip_prefix("//= ") {
            ("", code)
        } else {
            (row, row)
        };
        writeln!(wrong, "{in_wrong}").expect("a string");
        writeln!(right, "{in_right}").expect("a string");
    }
    (wrong, right, errors)
}

/// Compile programs against the crate. Returns the errors of each.
fn compile(home: &Path, programs: &BTreeMap<String, String>) -> BTreeMap<String, Errors> {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = core.parent().expect("the project");
    std::fs::create_dir_all(home.join("src/bin")).expect("a folder");
    let manifest = format!(
        "[package]\nname = \"misuse\"\nedition = \"2024\"\n\n[dependencies]\npersist-core = {{ path = {core:?}, \
         default-features = false }}\n\n[workspace]\n"
    );
    std::fs::write(home.join("Cargo.toml"), manifest).expect("a manifest");
    // Use the locked versions, so that cargo downloads nothing.
    std::fs::copy(top.join("Cargo.lock"), home.join("Cargo.lock")).expect("the versions");
    for (name, text) in programs {
        std::fs::write(home.join(format!("src/bin/{name}.rs")), text).expect("a program");
    }
    let done = Command::new(env!("CARGO"))
        .args([
            "check",
            "--offline",
            "--bins",
            "--keep-going",
            "--message-format=short",
            "--color=never",
        ])
        .current_dir(home)
        .env("CARGO_TARGET_DIR", target().join("api"))
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&done.stderr);
    let mut found: BTreeMap<String, Errors> = programs.keys().map(|n| (n.clone(), Errors::new())).collect();
    for row in said.lines() {
        // src/bin/NAME.rs:LINE:COLUMN: error[CODE]: TEXT
        let Some(rest) = row.strip_prefix("src/bin/") else {
            continue;
        };
        let mut parts = rest.splitn(4, ':');
        let (Some(file), Some(line), Some(_), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let Some(error) = text.trim_start().strip_prefix("error") else {
            continue;
        };
        let code = error
            .trim_start_matches('[')
            .split(']')
            .next()
            .unwrap_or_default();
        let name = file.trim_end_matches(".rs");
        found
            .get_mut(name)
            .unwrap_or_else(|| panic!("an error in {name}"))
            .insert((line.parse().expect("a line"), code.to_owned()));
    }
    let any = found.values().any(|errors| !errors.is_empty());
    assert_eq!(
        done.status.success(),
        !any,
        "cargo failed for another reason:\n{said}"
    );
    found
}

/// The directory for cargo's output of this test.
fn target() -> PathBuf {
    let exe = std::env::current_exe().expect("this program");
    exe.ancestors().nth(3).expect("the target folder").to_owned()
}

#[test]
fn misuses_do_not_compile() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/cases");
    let mut programs = BTreeMap::new();
    let mut wanted = BTreeMap::new();
    for file in std::fs::read_dir(folder).expect("the cases") {
        let path = file.expect("a case").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let (wrong, right, errors) = halves(&std::fs::read_to_string(&path).expect("text"));
        assert!(!errors.is_empty(), "{name} says no error");
        assert!(
            wrong.contains("#![forbid(unsafe_code)]"),
            "{name} is not safe code"
        );
        programs.insert(format!("{name}_wrong"), wrong);
        programs.insert(format!("{name}_right"), right);
        wanted.insert(format!("{name}_wrong"), errors);
        wanted.insert(format!("{name}_right"), Errors::new());
    }
    assert!(wanted.len() >= 16, "cases are missing: {wanted:?}");
    let home = tempfile::tempdir().expect("a folder");
    assert_eq!(compile(home.path(), &programs), wanted);
}

/// The modules that rustdoc describes, and the most items (types, functions, constants) in them.
const MODULES: [&str; 4] = ["backup", "check", "error", "store"];
const ITEMS_AT_MOST: usize = 44;

#[test]
fn rustdoc_lists_what_a_user_needs() {
    let target = target().join("api");
    let done = Command::new(env!("CARGO"))
        .args([
            "rustdoc",
            "--offline",
            "--locked",
            "--lib",
            "--no-default-features",
            "--quiet",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .output()
        .expect("cargo runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let all =
        std::fs::read_to_string(target.join("doc/persist_core/all.html")).expect("the list of all items");
    let items: BTreeSet<&str> = all
        .split("<li><a href=\"")
        .skip(1)
        .filter_map(|row| row.split_once("</a></li>")?.0.split_once("\">"))
        .filter(|(link, _)| link.contains(".html") && !link.starts_with('#'))
        .map(|(_, name)| name)
        .collect();
    let modules: BTreeSet<&str> = items
        .iter()
        .filter_map(|name| Some(name.split_once("::")?.0))
        .collect();
    assert_eq!(modules, BTreeSet::from(MODULES));
    assert!(
        items.contains("store::Store") && items.contains("backup::restore"),
        "{items:?}"
    );
    assert!(items.len() <= ITEMS_AT_MOST, "{} items: {items:?}", items.len());
}

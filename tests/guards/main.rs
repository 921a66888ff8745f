//! The list of the guards is true: each one's text is where it is said to be, its test exists, and the documentation has
//! a row for it. That each test fails without its guard takes longer: `just guards`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where tests are.
const ROOMS: [&str; 4] = ["src", "tests", "bootstrap/src", "bootstrap/tests"];

struct Guard {
    name: String,
    protects: String,
    /// The lines, with their file.
    places: Vec<(String, String)>,
    /// The test's path, as the harness prints it.
    test: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn guards() -> Vec<Guard> {
    read("tests/guards/guards.txt").split("\n## ").skip(1).map(guard).collect()
}

fn guard(block: &str) -> Guard {
    let field = |word: &str| {
        let values: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix(word)).collect();
        assert_eq!(values.len(), 1, "one line `{word}...` in {block}");
        values.concat()
    };
    Guard {
        name: block.lines().next().unwrap().to_owned(),
        protects: field("protects from: "),
        places: places(block),
        test: field("held by: ").rsplit(' ').next().unwrap().to_owned(),
    }
}

/// The lines that a guard takes away, by file: a guard may be in several places.
fn places(block: &str) -> Vec<(String, String)> {
    let mut places: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        if let Some(file) = line.strip_prefix("file: ") {
            places.push((file.to_owned(), String::new()));
        } else if let (Some(line), Some((_, find))) = (line.strip_prefix('-'), places.last_mut()) {
            find.push_str(line);
            find.push('\n');
        }
    }
    places
}

/// All source below a directory, one after the other.
fn sources(below: &Path) -> String {
    let entries = fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn each_guard_is_in_its_file_exactly_once() {
    let guards = guards();
    let names: BTreeSet<&str> = guards.iter().map(|guard| guard.name.as_str()).collect();
    assert_eq!(names.len(), guards.len(), "no name is used twice");
    for Guard { name, places, .. } in &guards {
        assert!(!places.is_empty(), "{name} is nowhere");
        for (file, find) in places {
            let once = !find.is_empty() && read(file).matches(find.as_str()).count() == 1;
            assert!(once, "{name}: in {file}, once:\n{find}");
        }
    }
}

#[test]
fn each_guard_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all: String = ROOMS.iter().map(|room| sources(&root.join(room))).collect();
    for Guard { name, test, .. } in guards() {
        let function = format!("fn {}(", test.rsplit("::").next().unwrap());
        assert!(all.contains(&function), "{name}: no {function}");
    }
}

#[test]
fn the_recipes_name_guards_that_there_are() {
    let guards = guards();
    let recipes = read("justfile");
    let named = recipes.lines().filter_map(|line| line.trim_start().strip_prefix("tests/guards/run.py "));
    let named: Vec<&str> = named.flat_map(str::split_whitespace).filter(|word| !word.contains('{')).collect();
    assert!(!named.is_empty(), "a recipe that chooses guards");
    for name in named {
        assert!(guards.iter().any(|guard| guard.name == name), "no guard is called {name}");
    }
}

#[test]
fn the_documentation_has_every_guard_and_no_other() {
    let told = read("docs/reliability.md");
    let section = told.split("\n## ").find(|section| section.starts_with("Guards\n")).unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = guards()
        .into_iter()
        .map(|Guard { name, protects, test, .. }| format!("| `{name}` | {protects} | `{test}` |"))
        .collect();
    assert_eq!(rows, expected, "tests/guards/run.py --table writes it");
}

//! Which images are found, by which names, and what is said of the others.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use sockerless_sandbox::images::catalog::{Catalog, look, signature};

use crate::support::{Files, INDEX, Image, Layout, MANIFEST, archive, docker_save};

fn image(content: &str) -> Image {
    Image::new(json!({ "Cmd": ["x"] })).gzip(Files::new().file("f", 0o644, content))
}

fn found(directory: &tempfile::TempDir) -> Catalog {
    look(&[directory.path().to_owned()])
}

fn names(catalog: &Catalog) -> Vec<&str> {
    catalog.images.keys().map(String::as_str).collect()
}

#[test]
fn a_layouts_images_have_the_names_that_it_gives() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::default();
    let descriptors = ["a", "b", "c", "d", "e"].map(|content| layout.image(&image(content)));
    let [a, b, c, d, e] = descriptors;
    let reference = "org.opencontainers.image.ref.name";
    layout
        .add(a, &[(reference, "1.36")])
        .add(b, &[(reference, "ghcr.io/team/app:2")])
        .add(c, &[("io.containerd.image.name", "docker.io/library/full:3"), (reference, "3")])
        .add(d, &[(reference, "alone")])
        .add(e, &[])
        .write(&directory.path().join("busybox"));
    let catalog = found(&directory);
    assert_eq!(catalog.problems, []);
    assert_eq!(
        names(&catalog),
        // A word is the tag of what the directory is called, or a name.
        [
            "1.36:latest",
            "alone:latest",
            "busybox:1.36",
            "busybox:alone",
            "busybox:latest",
            "full:3",
            "ghcr.io/team/app:2"
        ]
    );
    assert_eq!(catalog.images["busybox:1.36"], catalog.images["1.36:latest"]);
    assert_ne!(catalog.images["busybox:1.36"], catalog.images["busybox:latest"]);
    // The directory itself may be the layout.
    assert_eq!(look(&[directory.path().join("busybox")]), catalog);
}

#[test]
fn an_archive_of_docker_save_is_found_by_its_tags() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two, three) = (image("1"), image("2"), image("3"));
    docker_save(
        &directory.path().join("saved.tar"),
        &[(&one, &["busybox:latest", "registry.local:5000/busybox:1"]), (&two, &["two:2"]), (&three, &[])],
    );
    let catalog = found(&directory);
    assert_eq!(catalog.problems, []);
    assert_eq!(names(&catalog), ["busybox:latest", "registry.local:5000/busybox:1", "saved:latest", "two:2"]);
    let busybox = &catalog.images["busybox:latest"][0];
    assert_eq!((busybox.cmd.as_slice(), busybox.digest.len()), (&["x".to_owned()][..], 64));
    assert_eq!(look(&[directory.path().join("saved.tar")]), catalog, "a file may be named, too");
}

#[test]
fn a_layout_may_be_in_an_archive() {
    let directory = tempfile::tempdir().unwrap();
    let image = image("x");
    Layout::default().with("docker.io/library/app:1", &image).archive(&directory.path().join("a.tar"));
    Layout::default().with("docker.io/library/app:1", &image).write(&directory.path().join("b"));
    let catalog = found(&directory);
    assert_eq!((names(&catalog), catalog.problems.len()), (vec!["app:1"], 0), "the same image twice is no problem");
}

#[test]
fn an_index_holds_an_image_for_each_architecture() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::default();
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let image = Image { architecture: architecture.to_owned(), ..image(architecture) };
        let mut descriptor = layout.image(&image);
        descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
        manifests.push(descriptor);
    }
    let mut attestation = layout.image(&image("attestation"));
    attestation["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    manifests.push(attestation);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let index = layout.put(INDEX, index.to_string().into_bytes());
    // What is no image is none: a signature, for example.
    let config = layout.put("application/vnd.dev.cosign.simplesigning.v1+json", b"{}".to_vec());
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] });
    let signature = layout.put(MANIFEST, manifest.to_string().into_bytes());
    layout
        .add(index, &[("io.containerd.image.name", "app:1")])
        .add(signature, &[("io.containerd.image.name", "app:1.sig")])
        .write(&directory.path().join("x"));
    let catalog = found(&directory);
    assert_eq!((names(&catalog), catalog.problems.len()), (vec!["app:1"], 0));
    let architectures: Vec<&str> = catalog.images["app:1"].iter().map(|image| image.architecture.as_str()).collect();
    assert_eq!(architectures, ["x86_64", "arm64"]);
}

#[test]
fn what_docker_writes_as_null_is_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        json!({ "Entrypoint": null, "Cmd": null, "Env": null, "WorkingDir": "/w", "User": "app", "Volumes": null });
    let image = Image::new(config).plain(Files::new().file("f", 0o644, ""));
    docker_save(&directory.path().join("a.tar"), &[(&image, &["a:1"])]);
    let catalog = found(&directory);
    let image = &catalog.images["a:1"][0];
    assert!(image.entrypoint.is_empty() && image.cmd.is_empty() && image.env.is_empty());
    assert_eq!((image.working_dir.as_str(), image.user.as_str()), ("/w", "app"));
}

#[test]
fn what_lambda_would_refuse_is_found_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let zstd = Image::new(json!({})).raw(&[0x28, 0xb5, 0x2f, 0xfd, 0], "0".repeat(64));
    let windows = Image { os: "windows".to_owned(), ..image("w") };
    Layout::default().with("zstd:1", &zstd).with("windows:1", &windows).write(&directory.path().join("x"));
    let catalog = found(&directory);
    let unsupported = |name: &str| catalog.images[name][0].unsupported.clone().unwrap();
    assert_eq!(unsupported("zstd:1"), "layer 1 is compressed with zstd");
    assert_eq!(unsupported("windows:1"), "it is an image for windows");
}

#[test]
fn what_cannot_be_used_is_said_and_harms_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    Layout::default().with("good:1", &image("good")).write(&path("good"));
    Layout::default().with("host", &image("host")).write(&path("host"));
    Layout::default().with("good:1", &image("other")).write(&path("second"));
    let mut torn = Layout::default().with("torn:1", &image("torn"));
    let longest = torn.files.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0.clone();
    torn.files.insert(longest, b"{}".to_vec());
    torn.write(&path("torn"));
    let mut less = Layout::default().with("less:1", &image("less"));
    less.files.clear();
    less.write(&path("less"));
    fs::write(path("no.tar"), "no tar").unwrap();
    archive(&path("other.tar"), &[("file".to_owned(), b"x".to_vec())].into());

    fs::write(path("all.tar.gz"), "x").unwrap();
    fs::write(path("readme.txt"), "x").unwrap();
    fs::create_dir(path("empty")).unwrap();
    let catalog = found(&directory);
    assert_eq!(names(&catalog), ["good:1"]);
    let problems: Vec<String> = catalog.problems.iter().map(ToString::to_string).collect();
    for (name, words) in [
        ("host", "this machine's own file system"),
        ("second", "another image is called good:1"),
        ("torn", "does not have the digest sha256:"),
        ("less", "is missing"),
        ("no.tar", "it cannot be read"),
        ("other.tar", "neither an archive of docker save nor"),
        ("all.tar.gz", "decompress it"),
    ] {
        let begin = format!("{}: ", path(name).display());
        assert!(
            problems.iter().any(|problem| problem.starts_with(&begin) && problem.contains(words)),
            "{name}: {problems:?}"
        );
    }
    assert_eq!(problems.len(), 7, "{problems:?}");
    assert_eq!(look(&[PathBuf::from("/nonexistent")]).problems.len(), 1);
}

#[test]
fn a_change_shows_in_the_signature() {
    let directory = tempfile::tempdir().unwrap();
    let directories = [directory.path().to_owned()];
    let empty = signature(&directories);
    assert_eq!(signature(&directories), empty);
    Layout::default().with("a:1", &image("a")).write(&directory.path().join("x"));
    let one = signature(&directories);
    assert_ne!(one, empty);
    Layout::default().with("a:1", &image("a")).with("b:1", &image("b")).write(&directory.path().join("x"));
    assert_ne!(signature(&directories), one);
}

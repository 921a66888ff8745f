//! From layers to files: what is laid over what, and what can never happen outside.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use sockerless_sandbox::images::OwnImage;
use sockerless_sandbox::images::catalog::look;
use sockerless_sandbox::images::store::{Store, Unpacked};
use tar::EntryType;

use crate::support::{Files, Image, Layout, digest};

struct Shop {
    directory: tempfile::TempDir,
    store: Store,
}

impl Shop {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("store"), b"this program is a front".to_vec());
        Self { directory, store }
    }

    fn image(&self, image: &Image) -> Arc<OwnImage> {
        let layout = self.directory.path().join("layout");
        Layout::default().with("a:1", image).write(&layout);
        let catalog = look(&[layout]);
        assert_eq!(catalog.problems, []);
        Arc::clone(&catalog.images["a:1"][0])
    }

    fn unpack(&self, image: &Image) -> Result<Unpacked, String> {
        self.store.unpacked(&self.image(image)).map_err(|error| error.to_string())
    }

    fn root(&self, image: &Image) -> PathBuf {
        self.unpack(image).unwrap().root
    }

    /// What is left in the store of images that could not be unpacked.
    fn litter(&self) -> usize {
        fs::read_dir(self.directory.path().join("store")).unwrap().count()
    }
}

fn layers(layers: impl IntoIterator<Item = Files>) -> Image {
    layers.into_iter().fold(Image::new(json!({})), Image::gzip)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_keep_what_they_are() {
    let shop = Shop::new();
    let root = shop.root(&layers([Files::new()
        .directory("bin", 0o755)
        .file("bin/tool", 0o4755, "tool")
        .file("secret", 0o600, "s")
        .symlink("link", "bin/tool")
        .hard_link("bin/same", "bin/tool")
        .device("dev/null")
        .directory("closed", 0o555)
        .file("closed/inside", 0o444, "i")]));
    assert_eq!((text(&root.join("bin/tool")), mode(&root.join("bin/tool"))), ("tool".to_owned(), 0o4755));
    assert_eq!(mode(&root.join("secret")), 0o600);
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("bin/tool"));
    let inode = |path: &str| fs::metadata(root.join(path)).unwrap().ino();
    assert_eq!(inode("bin/same"), inode("bin/tool"));
    assert!(!root.join("dev/null").exists(), "devices are the environment's own");
    assert_eq!(text(&root.join("closed/inside")), "i");
    let modified = fs::metadata(root.join("bin")).unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(SystemTime::UNIX_EPOCH).unwrap(), Duration::from_secs(1_000_000_000));
    if nix::unistd::geteuid().is_root() {
        assert_eq!(mode(&root.join("closed")), 0o555);
        let tool = fs::metadata(root.join("bin/tool")).unwrap();
        assert_eq!((tool.uid(), tool.gid()), (1_234, 1_235));
    } else {
        assert_eq!(mode(&root.join("closed")), 0o755, "its owner must be able to remove it");
    }
}

#[test]
fn upper_layers_lie_over_lower_ones() {
    let shop = Shop::new();
    let root = shop.root(&layers(
        [
            Files::new()
                .file("same", 0o644, "old")
                .file("gone", 0o644, "x")
                .file("gone-dir/deep/file", 0o644, "x")
                .file("opaque/old", 0o644, "x")
                .file("opaque/sub/old", 0o644, "x")
                .file("file-to-dir", 0o644, "x")
                .file("dir-to-file/x", 0o644, "x")
                .directory("kept", 0o700)
                .symlink("link-to-dir", "kept"),
            Files::new()
                .file("same", 0o600, "new")
                .file(".wh.gone", 0o644, "")
                .file(".wh.gone-dir", 0o644, "")
                // The opaque mark concerns what lies below, wherever it stands in its layer.
                .file("opaque/new", 0o644, "n")
                .file("opaque/sub/new", 0o644, "n")
                .file("opaque/.wh..wh..opq", 0o644, "")
                .file("opaque/later", 0o644, "n")
                .directory("file-to-dir", 0o755)
                .file("file-to-dir/x", 0o644, "x")
                .file("dir-to-file", 0o644, "f")
                .directory("link-to-dir", 0o755)
                .directory("kept", 0o711)
                .file(".wh..wh.plnk", 0o644, "")
                .file(".wh.never-there", 0o644, ""),
        ]
        .map(|files| files),
    ));
    assert_eq!((text(&root.join("same")), mode(&root.join("same"))), ("new".to_owned(), 0o600));
    for gone in ["gone", "gone-dir", "opaque/old", "opaque/sub/old", ".wh.gone", ".wh..wh.plnk"] {
        assert!(fs::symlink_metadata(root.join(gone)).is_err(), "{gone}");
    }
    for there in ["opaque/new", "opaque/sub/new", "opaque/later"] {
        assert_eq!(text(&root.join(there)), "n", "{there}");
    }
    assert_eq!((text(&root.join("dir-to-file")), text(&root.join("file-to-dir/x"))), ("f".to_owned(), "x".to_owned()));

    assert!(fs::symlink_metadata(root.join("link-to-dir")).unwrap().is_dir());
    assert_eq!(mode(&root.join("kept")), 0o711);
}

#[test]
fn links_to_directories_are_followed_inside() {
    let shop = Shop::new();
    let root = shop.root(&layers([
        Files::new().directory("usr/lib", 0o755).symlink("lib", "usr/lib").symlink("var/run", "/run"),
        Files::new().file("lib/libc", 0o644, "c").file("var/run/pid", 0o644, "1").hard_link("lib/same", "lib/libc"),
        Files::new().file("lib/.wh.libc", 0o644, ""),
    ]));
    assert!(!root.join("usr/lib/libc").exists());
    assert_eq!(text(&root.join("usr/lib/same")), "c");
    assert_eq!(text(&root.join("run/pid")), "1");
    assert!(fs::symlink_metadata(root.join("lib")).unwrap().is_symlink());
}

#[test]
fn nothing_happens_outside() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    let (there, file) = (outside.path().to_str().unwrap().to_owned(), victim.to_str().unwrap().to_owned());
    // Links lead to places inside, whatever they say.
    let shop = Shop::new();
    let root = shop.root(&layers([
        Files::new().symlink("out", &there).symlink("up", "../../../../../..").symlink("direct", &file),
        Files::new()
            .file("out/victim", 0o644, "evil")
            .file("up/climbed", 0o644, "evil")
            .file("direct", 0o644, "evil")
            .file("out/.wh.nothing", 0o644, "")
            .hard_link("hard", "out/victim"),
    ]));
    assert_eq!(text(&root.join(there.trim_start_matches('/')).join("victim")), "evil");
    assert_eq!(text(&root.join("climbed")), "evil");
    assert_eq!((text(&root.join("direct")), text(&root.join("hard"))), ("evil".to_owned(), "evil".to_owned()));
    for bad in [
        Files::new().file("../escape", 0o644, "evil"),
        Files::new().file("a/../../escape", 0o644, "evil"),
        Files::new().hard_link("hard", "../../victim"),
        Files::new().hard_link("hard", &file),
        Files::new().symlink("round", "round").file("round/x", 0o644, ""),
        Files::new().file("file", 0o644, "").file("file/below", 0o644, ""),
        Files::new().pretender("huge", 11 << 30),
    ] {
        assert!(shop.unpack(&layers([bad])).is_err());
    }
    assert_eq!((text(&victim), fs::read_dir(outside.path()).unwrap().count()), ("safe".to_owned(), 1));
    assert!(!shop.directory.path().join("escape").exists() && !shop.directory.path().join("store/escape").exists());
    assert_eq!(shop.litter(), 1, "what could not be unpacked is cleared away");
}

/// A pax record that names the file behind it.
fn pax(name: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {name}={value}\n");
    let digits = (1..9).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
    format!("{}{rest}", rest.len() + digits).into_bytes()
}

#[test]
fn names_and_pax_records_in_front_of_a_file_are_bounded() {
    let shop = Shop::new();
    let long = |part: &str, times: usize| vec![part; times].join("/");
    let of_use = long(&"n".repeat(200), 15);
    let root = shop.root(&layers([Files::new()
        .front(EntryType::GNULongName, of_use.as_bytes())
        .file("x", 0o644, "long name")
        .front(EntryType::XHeader, &[pax("comment", &"c".repeat(100_000)), pax("path", "by-pax")].concat())
        .file("x", 0o644, "pax")
        // Of a whole archive; nobody needs to keep it.
        .front(EntryType::XGlobalHeader, &vec![b'g'; 4 << 20])
        .file("last", 0o644, "last")]));
    assert_eq!(text(&root.join(of_use)), "long name");
    assert_eq!((text(&root.join("by-pax")), text(&root.join("last"))), ("pax".to_owned(), "last".to_owned()));

    let huge = vec![b'n'; 8 << 20];
    let too_long = long(&"n".repeat(200), 21);
    for (kind, content, reason) in [
        (EntryType::GNULongName, huge.clone(), "names and pax records of a file are longer than"),
        (EntryType::GNULongLink, huge.clone(), "names and pax records of a file are longer than"),
        (EntryType::XHeader, huge, "names and pax records of a file are longer than"),
        (EntryType::GNULongName, too_long.clone().into_bytes(), "a name of 4220 bytes is longer than 4096"),
        (EntryType::XHeader, pax("path", &too_long), "a name of 4220 bytes is longer than 4096"),
        (EntryType::GNULongName, long("d", 257).into_bytes(), "a path of 257 parts is deeper than 256"),
    ] {
        let error = shop.unpack(&layers([Files::new().front(kind, &content).file("x", 0o644, "")])).unwrap_err();
        assert!(error.contains(reason), "{kind:?}: {error}");
    }
    let link = Files::new().front(EntryType::GNULongLink, &vec![b'n'; 5000]).symlink("x", "y");
    let error = shop.unpack(&layers([link])).unwrap_err();
    assert!(error.contains("a name of 5000 bytes"), "{error}");

    // The same in the archive that holds the layers.
    let archive = shop.directory.path().join("archive.tar");
    fs::write(&archive, Files::new().front(EntryType::XHeader, &vec![b'n'; 8 << 20]).file("x", 0o644, "").tar())
        .unwrap();
    let problems = look(&[archive]).problems;
    assert!(problems[0].reason.contains("names and pax records"), "{problems:?}");
}

#[test]
fn marks_that_take_things_away_cost_once() {
    let shop = Shop::new();
    // With each mark walking over all files of its layer, this takes many minutes.
    let many = |files: Files, name: &str| (0..20_000).fold(files, |files, _| files.file(name, 0o644, ""));
    let lower = (0..3_000).fold(Files::new(), |files, number| files.file(&format!("d/{number}"), 0o644, ""));
    let upper = (0..3_000).fold(Files::new(), |files, number| files.file(&format!("d/new-{number}"), 0o644, ""));
    let image = layers([lower, many(many(upper, "d/.wh..wh..opq"), ".wh.d")]);
    let (done, unpacked) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || done.send(fs::read_dir(shop.root(&image).join("d")).unwrap().count()));
    assert_eq!(unpacked.recv_timeout(Duration::from_secs(120)), Ok(3_000));
}

#[test]
fn an_absolute_path_is_one_in_the_image() {
    let shop = Shop::new();
    let root = shop
        .root(&layers([Files::new().file("/etc/app.conf", 0o644, "x").file("./b", 0o644, "y").directory("./", 0o751)]));
    assert_eq!((text(&root.join("etc/app.conf")), text(&root.join("b"))), ("x".to_owned(), "y".to_owned()));
    assert_eq!(mode(&root) & 0o77, 0o51);
}

#[test]
fn what_is_mounted_later_is_a_directory_or_a_file_of_the_image() {
    let shop = Shop::new();
    let unpacked = shop
        .unpack(&layers([Files::new()
            .symlink("tmp", "/etc")
            .symlink("proc", "../../..")
            .file("dev", 0o644, "")
            .symlink("etc", "usr/etc")
            .symlink("usr/etc/resolv.conf", "/run/resolv.conf")
            .file("usr/etc/hosts", 0o640, "mine")]))
        .unwrap();
    for name in ["tmp", "proc", "dev", "sys"] {
        assert!(fs::symlink_metadata(unpacked.root.join(name)).unwrap().is_dir(), "{name}");
    }
    let places: Vec<_> = unpacked.record.machine_files.iter().map(|(_, place)| place.to_str().unwrap()).collect();
    assert_eq!(places, ["/usr/etc/resolv.conf", "/usr/etc/hosts"]);
    assert!(fs::symlink_metadata(unpacked.root.join("usr/etc/resolv.conf")).unwrap().is_file());
    assert_eq!(mode(&unpacked.root.join("usr/etc/hosts")), 0o640);
}

#[test]
fn what_is_not_what_it_should_be_is_refused() {
    let shop = Shop::new();
    let tar = || Files::new().file("f", 0o644, "x").tar();
    let wrong = Image::new(json!({})).raw(&tar(), digest(b"something else"));
    assert!(shop.unpack(&wrong).unwrap_err().contains("layer 1 does not have the digest sha256:"));
    let cut = Image::new(json!({})).raw(&tar()[..700], digest(&tar()));
    assert!(shop.unpack(&cut).unwrap_err().contains("layer 1"));
    let changed = shop.image(&layers([Files::new().file("f", 0o644, "other")]));
    let blobs = shop.directory.path().join("layout/blobs/sha256");
    for blob in fs::read_dir(blobs).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            // The time in gzip's header: the same tar, another blob.
            bytes[4] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let error = shop.store.unpacked(&changed).unwrap_err().to_string();
    assert!(error.contains("layer 1 does not have the digest sha256:"), "{error}");
    assert_eq!(shop.litter(), 0);
}

#[test]
fn an_image_is_unpacked_once() {
    let shop = Shop::new();
    let image = shop.image(&layers([Files::new().file("f", 0o644, "x")]));
    assert_eq!(shop.store.get(&image), None);
    let all: Vec<Unpacked> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| shop.store.unpacked(&image).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|one| *one == all[0]));
    let inode = fs::metadata(all[0].root.join("f")).unwrap().ino();
    // Another sandbox on the same directory, after one that died in the middle.
    let store = shop.directory.path().join("store");
    fs::create_dir(store.join(".new-999999999-0")).unwrap();
    let second = Store::new(store, Vec::new());
    assert_eq!(fs::metadata(second.unpacked(&image).unwrap().root.join("f")).unwrap().ino(), inode);
    second.unpacked(&shop.image(&layers([Files::new().file("g", 0o644, "y")]))).unwrap();
    assert_eq!(shop.litter(), 2, "and nothing else");
}

#[test]
fn a_front_is_known_by_its_mark() {
    let shop = Shop::new();
    let mark = "this program is a front";
    let filler = "x".repeat(200_000);
    let program = |begin: &str, rest: &str| format!("{begin}{filler}{rest}");
    for (entrypoint, files, has_front) in [
        (json!(["/front"]), Files::new().file("front", 0o755, program("\x7fELF", mark)), true),
        (json!(["/link"]), Files::new().file("front", 0o755, program("\x7fELF", mark)).symlink("link", "/front"), true),
        (json!(["/link"]), Files::new().symlink("link", "/nowhere"), false),
        (json!(["/front"]), Files::new().file("front", 0o755, program("\x7fELF", "no")), false),
        (json!(["/front"]), Files::new().file("front", 0o755, program("#!/bin/sh ", mark)), false),
        (json!(["front"]), Files::new(), false),
        (json!([]), Files::new(), false),
    ] {
        let image = Image::new(json!({ "Entrypoint": entrypoint })).gzip(files);
        assert_eq!(shop.unpack(&image).unwrap().record.has_front, has_front, "{entrypoint}");
    }
}

//! Images made by the tests themselves, and programs built for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// This machine's processor as images call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The files of one layer.
pub(crate) struct Files(Builder<Vec<u8>>);

impl Files {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, mode: u32, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_uid(1_234);
        header.set_gid(1_235);
        header.set_size(u64::try_from(size).unwrap());
        header
    }

    pub(crate) fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.entry(path, Self::header(EntryType::Regular, mode, content.len()), content)
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, Self::header(EntryType::Directory, mode, 0), &[])
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(path, target, EntryType::Symlink)
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(path, target, EntryType::Link)
    }

    fn link(self, path: &str, target: &str, kind: EntryType) -> Self {
        let mut header = Self::header(kind, 0o777, 0);
        header.set_link_name_literal(target).unwrap();
        self.entry(path, header, &[])
    }

    pub(crate) fn device(self, path: &str) -> Self {
        let mut header = Self::header(EntryType::Char, 0o666, 0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        self.entry(path, header, &[])
    }

    /// A file that says it is larger than what comes.
    pub(crate) fn pretender(self, path: &str, size: u64) -> Self {
        let mut header = Self::header(EntryType::Regular, 0o644, 0);
        header.set_size(size);
        self.entry(path, header, &[])
    }

    /// What stands in front of a file: a long name or link, pax records.
    pub(crate) fn front(self, kind: EntryType, content: &[u8]) -> Self {
        self.entry("front", Self::header(kind, 0o644, content.len()), content)
    }

    /// The path as it is: the builder itself would refuse many.
    fn entry(mut self, path: &str, mut header: Header, content: &[u8]) -> Self {
        let name = &mut header.as_gnu_mut().unwrap().name;
        name.fill(0);
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An image that is being made.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) architecture: String,
    pub(crate) os: String,
    pub(crate) config: Value,
    /// Blob, and digest of the tar in it.
    pub(crate) layers: Vec<(Vec<u8>, String)>,
}

impl Image {
    pub(crate) fn new(config: Value) -> Self {
        Self { architecture: architecture().to_owned(), os: "linux".to_owned(), config, layers: Vec::new() }
    }

    pub(crate) fn plain(mut self, files: Files) -> Self {
        let tar = files.tar();
        let diff_id = digest(&tar);
        self.layers.push((tar, diff_id));
        self
    }

    pub(crate) fn gzip(mut self, files: Files) -> Self {
        let tar = files.tar();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&tar).unwrap();
        self.layers.push((encoder.finish().unwrap(), digest(&tar)));
        self
    }

    /// A layer as it is, with a digest of what it should hold.
    pub(crate) fn raw(mut self, blob: &[u8], diff_id: String) -> Self {
        self.layers.push((blob.to_vec(), diff_id));
        self
    }

    fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|(_, diff_id)| format!("sha256:{diff_id}")).collect();
        let config = json!({
            "architecture": self.architecture, "os": self.os, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        config.to_string().into_bytes()
    }
}

/// A layout in the making: its files by path.
#[derive(Default)]
pub(crate) struct Layout {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn put(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() });
        self.files.insert(format!("blobs/sha256/{digest}"), bytes);
        descriptor
    }

    /// The descriptor of an image that is not in the index.
    pub(crate) fn image(&mut self, image: &Image) -> Value {
        let layers: Vec<Value> = image.layers.iter().map(|(blob, _)| self.put(TAR, blob.clone())).collect();
        let config = self.put(CONFIG, image.config());
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.put(MANIFEST, manifest.to_string().into_bytes())
    }

    pub(crate) fn add(mut self, descriptor: Value, annotations: &[(&str, &str)]) -> Self {
        let mut descriptor = descriptor;
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        descriptor["annotations"] = json!(annotations);
        self.manifests.push(descriptor);
        self
    }

    /// With an image under a full name.
    pub(crate) fn with(mut self, name: &str, image: &Image) -> Self {
        let descriptor = self.image(image);
        self.add(descriptor, &[("io.containerd.image.name", name)])
    }

    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests });
        files.insert("index.json".to_owned(), index.to_string().into_bytes());
        files.insert("oci-layout".to_owned(), b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec());
        files
    }

    pub(crate) fn write(&self, directory: &Path) {
        for (path, bytes) in self.all() {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    pub(crate) fn archive(&self, path: &Path) {
        archive(path, &self.all());
    }
}

/// A tar of these files.
pub(crate) fn archive(path: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let mut builder = Builder::new(File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(u64::try_from(bytes.len()).unwrap());
        builder.append_data(&mut header, name, Cursor::new(bytes)).unwrap();
    }
    builder.finish().unwrap();
}

/// What `docker save` made before it made layouts.
pub(crate) fn docker_save(path: &Path, images: &[(&Image, &[&str])]) {
    let mut files = BTreeMap::new();
    let mut manifest = Vec::new();
    for (image, tags) in images {
        let config = image.config();
        let config_name = format!("{}.json", digest(&config));
        files.insert(config_name.clone(), config);
        let mut layers = Vec::new();
        for (blob, diff_id) in &image.layers {
            let name = format!("{diff_id}/layer.tar");
            files.insert(name.clone(), blob.clone());
            layers.push(name);
        }
        let tags = if tags.is_empty() { Value::Null } else { json!(tags) };
        manifest.push(json!({ "Config": config_name, "RepoTags": tags, "Layers": layers }));
    }
    files.insert("manifest.json".to_owned(), Value::from(manifest).to_string().into_bytes());
    archive(path, &files);
}

/// The program of the images. `None`, with the reason on stderr: static programs cannot be built here.
pub(crate) fn probe() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/probe.rs");
        let output = Command::new("rustc")
            .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-C", "opt-level=1", "-o"])
            .arg(&target)
            .arg(source)
            .output()
            .unwrap();
        if !output.status.success() {
            eprintln!("skipped: no static program can be built: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(target)
    };
    BUILT.get_or_init(build).as_deref()
}

/// An image with nothing but the probe.
pub(crate) fn probe_image(config: Value) -> Option<Image> {
    let probe = fs::read(probe()?).unwrap();
    Some(Image::new(config).gzip(Files::new().directory("bin", 0o755).file("bin/probe", 0o755, probe)))
}

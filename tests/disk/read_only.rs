//! A file or a directory that cannot be written: refused with the path and the reason, and left as it is.

use std::fs;
use std::path::Path;

use sockerless_lambda::state::{StateError, Store, StoreOptions};

use crate::disk::ReadOnly;

async fn open(path: &Path) -> Result<Store, StateError> {
    Store::open(&StoreOptions { path: path.to_owned(), read_only: false }).await
}

async fn closed_database(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("state.db");
    open(&path).await.unwrap().close().await.unwrap();
    path
}

/// Refused, in words that name the file and say what is wrong with it; and usable as soon as that is mended.
async fn is_refused(path: &Path, read_only: ReadOnly, reasons: &[&str]) {
    let before = fs::read(path).unwrap();
    let error = match open(path).await {
        Err(error @ StateError::Unusable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert!(reasons.iter().any(|reason| error.contains(reason)), "{error}");
    assert_eq!(fs::read(path).unwrap(), before);
    drop(read_only);
    open(path).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_read_only_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = closed_database(directory.path()).await;
    let Some(read_only) = ReadOnly::make(&path, "a_read_only_file_is_refused") else { return };
    is_refused(&path, read_only, &["cannot be opened for writing"]).await;
}

#[tokio::test]
async fn a_read_only_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = closed_database(directory.path()).await;
    let Some(read_only) = ReadOnly::make(directory.path(), "a_read_only_directory_is_refused") else { return };
    is_refused(&path, read_only, &["cannot be opened for writing", "must be writable"]).await;
}

/// SQLite cannot put its log beside the file.
#[tokio::test]
async fn a_writable_file_in_a_read_only_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = closed_database(directory.path()).await;
    let test = "a_writable_file_in_a_read_only_directory_is_refused";
    let Some(read_only) = ReadOnly::but_for_files(directory.path(), test) else { return };
    let reason = format!("the directory {} must be writable", directory.path().display());
    is_refused(&path, read_only, &[&reason]).await;
}

/// A file that was cut short has lost pages that its own header counts.
#[tokio::test]
async fn a_file_that_was_cut_short_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = closed_database(directory.path()).await;
    let whole = fs::read(&path).unwrap();
    for pages in 1..whole.len() / 4_096 {
        fs::write(&path, whole.get(..pages * 4_096).unwrap()).unwrap();
        let error = open(&path).await.err().map(|error| error.to_string());
        assert!(error.as_deref().is_some_and(|error| error.contains("malformed")), "{pages} pages: {error:?}");
    }
    fs::write(&path, whole).unwrap();
    open(&path).await.unwrap().close().await.unwrap();
}

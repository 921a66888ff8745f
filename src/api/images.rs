//! Images: references only. Lambda pulls from the registry itself, so no bytes of an image are ever here.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use regex::Regex;
use serde_json::{Value, json};

use super::admit::architecture_of;
use super::call::Call;
use super::containers::Unsent;
use super::error::ApiError;
use super::image_feed::ImageFeed;
use super::query::{self, Filters};
use super::reference::{Reference, id_prefix};
use super::reply::{self, Reply, Writer};
use super::stream::json_line;
use super::{ApiContext, limits, names, unsupported, wire};
use crate::clock::Timestamp;
use crate::state::{Image, ImageRemoval, MAX_BATCH, MAX_IMAGES};

/// The filters of the list.
const FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::BadRequest(message.into())
}

/// The long name, with a tag.
pub(super) fn canonical(text: &str) -> Result<String, ApiError> {
    Ok(Reference::parse(text).map_err(bad)?.with_default_tag().canonical())
}

/// The short name.
pub(super) fn familiar(reference: &str) -> String {
    Reference::parse(reference).map_or_else(|_| reference.to_owned(), |reference| reference.familiar())
}

/// Whether the reference is the image's own, and not a tag that was given here.
pub(super) fn is_original(image: &Image) -> bool {
    image.id == names::image_id(&image.reference)
}

/// The references whose image has an id that begins like this; none if the text is no beginning of one.
pub(super) fn by_id<'a>(images: &'a [Image], text: &str) -> Vec<&'a Image> {
    let Some(prefix) = id_prefix(text) else { return Vec::new() };
    let is_meant = |image: &&Image| image.id.strip_prefix("sha256:").unwrap_or(&image.id).starts_with(prefix);
    images.iter().filter(is_meant).collect()
}

/// All references of the image that a client names.
fn find<'a>(images: &'a [Image], text: &str) -> Result<Vec<&'a Image>, ApiError> {
    let reference = Reference::parse(text).map(Reference::with_default_tag);
    let named = reference.as_ref().ok().and_then(|reference| {
        let canonical = reference.canonical();
        images.iter().find(|image| image.reference == canonical)
    });
    let found = match named {
        Some(named) => images.iter().filter(|image| image.id == named.id).collect(),
        None => by_id(images, text),
    };
    let ids: BTreeSet<&str> = found.iter().map(|image| image.id.as_str()).collect();
    match ids.len() {
        0 => Err(ApiError::NoSuchImage(reference.map_or_else(|_| text.to_owned(), |reference| reference.familiar()))),
        1 => Ok(found),
        _ => Err(bad(format!("multiple IDs found with provided prefix: {text}"))),
    }
}

/// Records a reference if it is new.
pub(super) async fn record(api: &ApiContext, reference: &str, action: &'static str) -> Result<(), ApiError> {
    if api.reader.image(reference).await?.is_none() {
        put(api, reference, names::image_id(reference), None, action).await?;
    }
    Ok(())
}

async fn put(
    api: &ApiContext,
    reference: &str,
    id: String,
    digest: Option<String>,
    action: &'static str,
) -> Result<(), ApiError> {
    let now = api.clock.now();
    let image = Image { reference: reference.to_owned(), id, created_at: now, digest };
    if api.wishes.put_image(image, action, now).await? {
        return Ok(());
    }
    Err(ApiError::Conflict(format!(
        "there are {MAX_IMAGES} image references, which is the most that are kept, and containers use all of them: remove \
         containers (docker container prune), or references with docker rmi --force"
    )))
}

/// `POST /images/create`: Docker's pull.
pub(super) async fn create(mut call: Call) -> Result<Reply, ApiError> {
    call.drain().await;
    if call.query.get("fromSrc").is_some() {
        return Err(unsupported::IMPORT.error());
    }
    let name = call.query.get("fromImage").ok_or_else(|| bad("fromImage: the name of an image is needed"))?;
    let mut reference = Reference::parse(name).map_err(bad)?;
    if let Some(tag) = call.query.get("tag") {
        reference = reference.tagged(tag).map_err(bad)?;
    }
    // Which processor a function has is told when it is made; here only what no function has is refused.
    call.query.get("platform").map(architecture_of).transpose()?;
    answer_pull(&call, reference).await
}

/// `POST /images/pull`: the internal API's.
pub(super) async fn pull(mut call: Call) -> Result<Reply, ApiError> {
    let body = call.json()?.unwrap_or_default();
    let name = body.get("Reference").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| bad("Reference: the name of an image is needed"))?;
    answer_pull(&call, Reference::parse(name).map_err(bad)?).await
}

/// Records the reference and says what a client of Docker expects at the end. No digest is invented: it is known only
/// when Lambda has resolved the reference for a function.
async fn answer_pull(call: &Call, reference: Reference) -> Result<Reply, ApiError> {
    let api = call.api();
    let reference = reference.with_default_tag();
    let canonical = reference.canonical();
    // A tag that was given here gives way to the image that the registry has under this name.
    let known = api.reader.image(&canonical).await?.filter(is_original);
    put(api, &canonical, names::image_id(&canonical), None, "pull").await?;
    let tag = reference.tag_or_digest();
    let from = if reference.is_short() { reference.path().to_owned() } else { reference.familiar_name() };
    let mut lines = vec![json!({ "status": format!("Pulling from {from}"), "id": tag })];
    let no_bytes = "Nothing to download: Lambda pulls the image from its registry when a function is made";
    lines.push(json!({ "status": no_bytes, "progressDetail": {}, "id": tag }));
    if let Some(digest) = known.as_ref().and_then(|image| image.digest.as_deref()) {
        let digest = digest.rsplit_once('@').map_or(digest, |(_, digest)| digest);
        lines.push(json!({ "status": format!("Digest: {digest}") }));
    }
    let status = if known.is_some() { "Image is up to date" } else { "Recorded the image" };
    lines.push(json!({ "status": format!("Status: {status} for {}", reference.familiar()) }));
    let (writer, body) = reply::streamed();
    // Some clients read the lines one by one only if the answer comes in pieces.
    tokio::spawn(async move {
        for line in &lines {
            if writer.send(json_line(line)).await.is_err() {
                return;
            }
        }
        writer.finish().await;
    });
    Ok(reply::with_body(StatusCode::OK, "application/json", body))
}

/// `docker images`: one entry an image, with all its tags.
pub(super) async fn list(call: Call) -> Result<Reply, ApiError> {
    let wanted = Wanted::read(&call).await?;
    let feed = ImageFeed::begin(Arc::clone(&call.room), move |tags| wanted.has(tags)).await?;
    let (writer, body) = reply::streamed();
    tokio::spawn(async move {
        match send_list(feed, &writer).await {
            Ok(()) => writer.finish().await,
            Err(Unsent::Gone) => {}
            Err(error) => tracing::error!(%error, "a list of images was cut off"),
        }
    });
    Ok(reply::with_body(StatusCode::OK, "application/json", body))
}

async fn send_list(feed: ImageFeed<impl Fn(&[Image]) -> bool + Send>, writer: &Writer) -> Result<(), Unsent> {
    writer.send("[").await?;
    feed.send(writer).await?;
    Ok(writer.send("]\n").await?)
}

/// What a list is restricted to.
struct Wanted {
    filters: Filters,
    until: Option<Timestamp>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    patterns: Vec<Regex>,
}

impl Wanted {
    async fn read(call: &Call) -> Result<Self, ApiError> {
        let api = call.api();
        let filters = call.query.filters(FILTERS)?;
        let until = filters.until(api.clock.now())?;
        let (mut before, mut since) = (None, None);
        if filters.has("before") || filters.has("since") {
            let images = api.reader.images().await?;
            let end = |name: &str| -> Result<Option<Timestamp>, ApiError> {
                let found = filters.values(name).map(|text| find(&images, text)).last().transpose()?;
                Ok(found.and_then(|tags| created(tags.into_iter())))
            };
            (before, since) = (end("before")?, end("since")?);
        }
        let patterns = filters.values("reference").filter_map(pattern).collect();
        Ok(Self { filters, until, before, since, patterns })
    }

    fn has(&self, tags: &[Image]) -> bool {
        let created = created(tags.iter());
        let filters = &self.filters;
        filters.any("dangling", |dangling| matches!(dangling, "false" | "0"))
            && !filters.has("label")
            && (!filters.has("reference") || tags.iter().any(|image| fits(&self.patterns, &image.reference)))
            && self.until.is_none_or(|until| created < Some(until))
            && self.before.is_none_or(|before| created < Some(before))
            && self.since.is_none_or(|since| created > Some(since))
    }
}

/// When an image was first named.
fn created<'a>(tags: impl Iterator<Item = &'a Image>) -> Option<Timestamp> {
    tags.map(|image| image.created_at).min()
}

/// A pattern such as `alpine`, `alpine:3*` or `*/app`; `*` stops at a slash.
fn pattern(text: &str) -> Option<Regex> {
    let escaped = regex::escape(text).replace("\\*", "[^/]*").replace("\\?", "[^/]");
    query::regex(&format!("^{escaped}$"))
}

/// Whether a reference fits one of the patterns.
fn fits(patterns: &[Regex], reference: &str) -> bool {
    let Ok(reference) = Reference::parse(reference) else { return false };
    let names = [reference.familiar_name(), reference.familiar(), reference.canonical()];
    patterns.iter().any(|regex| names.iter().any(|name| regex.is_match(name)))
}

/// The name of an image: a part of the path, or the internal API's query parameter.
fn name(call: &Call) -> Result<&str, ApiError> {
    let name = match call.param("name") {
        "" => call.query.get("name").unwrap_or_default(),
        name => name,
    };
    if name.is_empty() { Err(bad("name: the name of an image is needed")) } else { Ok(name) }
}

/// What is known of an image.
pub(super) async fn inspect(call: Call) -> Result<Reply, ApiError> {
    let images = call.api().reader.images().await?;
    let tags = find(&images, name(&call)?)?;
    Ok(reply::ok(&wire::image_detail(&tags, wire::go_arch(call.api().config.architecture))))
}

/// One layer of which nothing is known.
pub(super) async fn history(call: Call) -> Result<Reply, ApiError> {
    let images = call.api().reader.images().await?;
    Ok(reply::ok(&wire::image_history(&find(&images, name(&call)?)?)))
}

/// Gives an image one more name.
pub(super) async fn tag(call: Call) -> Result<Reply, ApiError> {
    let images = call.api().reader.images().await?;
    let tags = find(&images, name(&call)?)?;
    let repo = call.query.get("repo").ok_or_else(|| bad("repo: the new name is needed"))?;
    let mut reference = Reference::parse(repo).map_err(bad)?;
    if let Some(tag) = call.query.get("tag") {
        reference = reference.tagged(tag).map_err(bad)?;
    }
    let Some(image) = tags.first() else { return Err(ApiError::NoSuchImage(repo.to_owned())) };
    let canonical = reference.with_default_tag().canonical();
    put(call.api(), &canonical, image.id.clone(), image.digest.clone(), "tag").await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// Forgets a reference, or all of an image that is named by its id.
pub(super) async fn remove(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let images = api.reader.images().await?;
    let (text, force) = (name(&call)?, call.query.flag("force"));
    let tags = match find(&images, text) {
        Err(ApiError::NoSuchImage(_)) if is_unreadable(api, text).await? => {
            return forget_unreadable(api, text, force).await;
        }
        found => found?,
    };
    let named = canonical(text).ok().and_then(|canonical| tags.iter().find(|image| image.reference == canonical));
    let to_remove: Vec<&Image> = named.map_or_else(|| tags.clone(), |image| vec![*image]);
    refuse_while_used(api, text, &to_remove, force).await?;
    let answer = forget(api, removals(&tags, &to_remove)).await?;
    Ok(reply::ok(&Value::Array(answer)))
}

/// Whether a client names a reference whose record cannot be read.
async fn is_unreadable(api: &ApiContext, text: &str) -> Result<bool, ApiError> {
    let Ok(canonical) = canonical(text) else { return Ok(false) };
    Ok(api.reader.has_unreadable_image(&canonical).await?)
}

/// Forgets a reference whose record cannot be read. Which other references its image has is not known.
async fn forget_unreadable(api: &ApiContext, text: &str, force: bool) -> Result<Reply, ApiError> {
    let (reference, id) = (canonical(text)?, names::image_id(&canonical(text)?));
    let image = Image { reference, id, created_at: api.clock.now(), digest: None };
    refuse_while_used(api, text, &[&image], force).await?;
    let removal = ImageRemoval { reference: image.reference.clone(), is_last: true };
    Ok(reply::ok(&Value::Array(forget(api, vec![(removal, &image.id)]).await?)))
}

async fn refuse_while_used(api: &ApiContext, text: &str, to_remove: &[&Image], force: bool) -> Result<(), ApiError> {
    for image in to_remove {
        if let Some(user) = api.reader.image_user(&image.reference, force).await? {
            return Err(in_use(text, to_remove, &user, force));
        }
    }
    Ok(())
}

fn in_use(text: &str, to_remove: &[&Image], user: &str, force: bool) -> ApiError {
    let container = short(user);
    let image = to_remove.first().map(|image| short(image.id.trim_start_matches("sha256:"))).unwrap_or_default();
    ApiError::Conflict(if force {
        format!(
            "conflict: unable to delete {image} (cannot be forced) - image is being used by running container {container}"
        )
    } else {
        format!(
            "conflict: unable to remove repository reference \"{text}\" (must force) - container {container} is using its \
             referenced image {image}"
        )
    })
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// The removals of references of one image; with the last of its `tags` the image is deleted. Each with the image's id.
fn removals<'a>(tags: &[&'a Image], to_remove: &[&'a Image]) -> Vec<(ImageRemoval, &'a str)> {
    let removal = |(count, image): (usize, &&'a Image)| {
        let is_last = count + 1 == tags.len();
        (ImageRemoval { reference: image.reference.clone(), is_last }, image.id.as_str())
    };
    to_remove.iter().enumerate().map(removal).collect()
}

/// Forgets references, a batch at a time; returns Docker's list of what was untagged and deleted.
async fn forget(api: &ApiContext, removals: Vec<(ImageRemoval, &str)>) -> Result<Vec<Value>, ApiError> {
    let now = api.clock.now();
    let mut answer = Vec::new();
    for batch in removals.chunks(MAX_BATCH) {
        let wanted = batch.iter().map(|(removal, _)| removal.clone()).collect();
        let done = api.wishes.delete_images(wanted, now).await?;
        for (removal, id) in batch.iter().filter(|(removal, _)| done.contains(removal)) {
            answer.push(json!({ "Untagged": familiar(&removal.reference) }));
            if removal.is_last {
                answer.push(json!({ "Deleted": id }));
            }
        }
    }
    Ok(answer)
}

/// `docker image prune`: images without a name never exist; with `dangling=false` all that no container uses.
pub(super) async fn prune(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let filters: Filters = call.query.filters(&["dangling", "until", "label", "label!"])?;
    let until = filters.until(api.clock.now())?;
    let everything = filters.values("dangling").any(|dangling| matches!(dangling, "false" | "0"));
    let (mut deleted, mut below) = (Vec::new(), None);
    while everything && !filters.has("label") {
        let page = api.reader.image_groups(below, limits::IMAGE_PAGE).await?;
        if page.next.is_none() {
            break;
        }
        below = page.next;
        let is_old = |tags: &[Image]| until.is_none_or(|until| tags.iter().all(|image| image.created_at < until));
        let unused = page.groups.iter().filter(|group| group.users == 0 && is_old(&group.references));
        let unused = unused.flat_map(|group| {
            let tags: Vec<&Image> = group.references.iter().collect();
            removals(&tags, &tags)
        });
        deleted.extend(forget(api, unused.collect()).await?);
    }
    Ok(reply::ok(&json!({ "ImagesDeleted": deleted, "SpaceReclaimed": 0 })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn image(reference: &str, id: &str) -> Image {
        let id = format!("sha256:{id}");
        Image { reference: reference.to_owned(), id, created_at: Timestamp::default(), digest: None }
    }

    #[test]
    fn an_image_is_found_by_any_of_its_names() {
        let images = [
            image("docker.io/library/alpine:latest", "aa11"),
            image("docker.io/library/alpine:3.18", "aa11"),
            image("ghcr.io/a/b:1", "aa22"),
        ];
        for (text, count) in [
            ("alpine", 2),
            ("alpine:3.18", 2),
            ("docker.io/library/alpine:latest", 2),
            ("ghcr.io/a/b:1", 1),
            ("sha256:aa11", 2),
            ("aa2", 1),
        ] {
            assert_eq!(find(&images, text).unwrap().len(), count, "{text}");
        }
        assert_eq!(find(&images, "nope").unwrap_err().to_string(), "No such image: nope:latest");
        assert_eq!(find(&images, "aa").unwrap_err().status(), 400);
    }

    #[test]
    fn reference_patterns() {
        let fit_one = |text: &str, reference: &str| fits(&[pattern(text).unwrap()], reference);
        for (pattern, fit) in [
            ("alpine", true),
            ("alpine:3.18", true),
            ("alpine:3*", true),
            ("al*", true),
            ("*:latest", false),
            ("debian", false),
            ("docker.io/library/alpine:3.18", true),
        ] {
            assert_eq!(fit_one(pattern, "docker.io/library/alpine:3.18"), fit, "{pattern}");
        }
        assert!(fit_one("*/b", "docker.io/a/b:1") && !fit_one("*", "docker.io/a/b:1"));
    }
}

//! The images that functions are made of: finding them, waiting until their files are there, and what is started.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Model;
use super::api::{ApiError, Effect, EnvironmentSpec};
use super::functions::{Config, Function, Source};
use super::lambda_api::Code;
use crate::images::OwnImage;
use crate::settings::{Image, ImageSource, StateReason};

/// A function whose image's files are not ready has this time.
pub(super) const NOT_YET: i64 = i64::MAX;

impl Model {
    /// Replaces all images that have files of their own. Functions keep those that they were made of.
    pub fn set_images(&mut self, images: BTreeMap<String, Vec<Arc<OwnImage>>>) {
        self.settings.images.retain(|_, image| image.source == ImageSource::Host);
        for (key, images) in images {
            let image = Image { source: ImageSource::Own(images), ..Image::default() };
            self.settings.images.entry(key).or_insert(image);
        }
    }

    /// Takes that an image's files are ready, or why they never will be.
    pub fn prepared(&mut self, now_ms: i64, digest: &str, failure: Option<&str>) {
        self.pass_time(now_ms);
        let now = self.now;
        let waiting = self.functions.live.values_mut().filter(|function| function.config.image.digest == digest);
        for function in waiting {
            if let Some(planned) = function.waits_until.take() {
                function.image_is_ready(planned.max(now), failure);
            }
        }
    }

    /// The image, and why a function of it can never run, if that can be told. `architectures` has one element.
    pub(super) fn look_up_image(
        &self,
        code: &Code,
        architectures: &[String],
    ) -> Result<(Source, Option<StateReason>), ApiError> {
        let Some(uri) = code.image_uri.as_deref().filter(|uri| !uri.is_empty()) else {
            return Err(ApiError::invalid_parameter(
                "Please provide ImageUri when creating a function with packageType Image.",
            ));
        };
        let Some((key, image)) = self.settings.image(uri) else {
            let known: Vec<&str> = self.settings.images.keys().map(String::as_str).collect();
            return Err(ApiError::invalid_parameter(format!(
                "Source image {uri} does not exist. Provide a valid source image. The sandbox has: {}.",
                known.join(", ")
            )));
        };
        if image.access_denied {
            return Err(ApiError::invalid_parameter(
                "Lambda does not have permission to access the ECR image. Check the ECR permissions.",
            ));
        }
        let wanted = architectures.first().map_or("x86_64", String::as_str);
        let own = match &image.source {
            ImageSource::Host => None,
            ImageSource::Own(images) => {
                let fitting = images.iter().find(|image| image.architecture == wanted);
                fitting.or_else(|| images.first()).cloned()
            }
        };
        let fails = match &own {
            Some(own) => self.usable(uri, own, wanted)?,
            None => None,
        };
        let digest = own.as_ref().map_or_else(|| digest(key), |own| own.digest.clone());
        Ok((Source { uri: uri.to_owned(), digest, own }, image.fails.clone().or(fails)))
    }

    fn usable(&self, uri: &str, image: &OwnImage, wanted: &str) -> Result<Option<StateReason>, ApiError> {
        if let Some(reason) = &image.unsupported {
            return Err(ApiError::invalid_parameter(format!(
                "The image manifest, config or layer media type for the source image {uri} is not supported: {reason}."
            )));
        }
        let (has, machine) = (&image.architecture, &self.settings.machine);
        let sentence = if has != wanted {
            format!("The image is for the architecture {has}, and the function for {wanted}.")
        } else if has != machine {
            format!("The image is for the architecture {has}, and this sandbox runs on {machine}.")
        } else {
            return Ok(None);
        };
        Ok(Some(invalid_image(sentence)))
    }

    /// Has the files of a function's image made ready, if it has any, and gives the time until when to wait instead of
    /// the planned one.
    pub(super) fn prepare(&mut self, image: &Source, planned: i64) -> (i64, Option<i64>) {
        match &image.own {
            Some(own) => {
                self.effects.push(Effect::Prepare(Arc::clone(own)));
                (NOT_YET, Some(planned))
            }
            None => (planned, None),
        }
    }

    /// Whether a function with these tags gets the bootstrap in front of its image's program.
    fn is_fronted(&self, function: &str) -> bool {
        let tags = self.functions.live.get(function).map(|function| &function.tags);
        let wanted = self.settings.front_tag.as_ref();
        wanted.zip(tags).is_some_and(|((key, value), tags)| tags.get(key) == Some(value))
    }

    /// What is started of the function's image.
    pub(super) fn spec_of_image(&self, config: &Config, spec: EnvironmentSpec) -> EnvironmentSpec {
        let asked = config.image_config.clone().unwrap_or_default();
        let Some(own) = &config.image.own else {
            return EnvironmentSpec {
                front: true,
                entrypoint: asked.entry_point.unwrap_or_default(),
                command: asked.command.unwrap_or_default(),
                working_dir: asked.working_directory,
                ..spec
            };
        };
        let its_command = if asked.entry_point.is_none() { own.cmd.clone() } else { Vec::new() };
        let its_directory = Some(&own.working_dir).filter(|directory| !directory.is_empty()).cloned();
        let pairs = own.env.iter().filter_map(|pair| pair.split_once('='));
        let mut env: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        env.extend(spec.env.clone());
        EnvironmentSpec {
            image: Some(Arc::clone(own)),
            front: self.is_fronted(&spec.function),
            entrypoint: asked.entry_point.unwrap_or_else(|| own.entrypoint.clone()),
            command: asked.command.unwrap_or(its_command),
            working_dir: asked.working_directory.or(its_directory),
            env,
            ..spec
        }
    }
}

impl Function {
    fn image_is_ready(&mut self, at: i64, failure: Option<&str>) {
        if self.ready_at == NOT_YET {
            self.ready_at = at;
            self.fails = failure.map(invalid_image);
            return;
        }
        self.update_until = at;
        if let Some(message) = failure {
            self.update_fails = Some(invalid_image(message));
        }
    }
}

fn invalid_image(message: impl Into<String>) -> StateReason {
    StateReason { code: "InvalidImage".to_owned(), message: message.into() }
}

/// 64 hexadecimal digits that depend on the image's name alone.
fn digest(key: &str) -> String {
    let seed = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    let mut rng = super::rng::Rng::new(seed);
    format!("{}{}", rng.hex32(), rng.hex32())
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, Request};
    use super::*;
    use crate::model::lambda_api::{CreateFunction, FunctionName, ImageConfig, Invoke, UpdateFunctionCode};
    use crate::settings::Settings;

    const ROLE: &str = "arn:aws:iam::000000000000:role/r";

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn image(digest: &str, architecture: &str) -> Arc<OwnImage> {
        Arc::new(OwnImage {
            digest: digest.to_owned(),
            architecture: architecture.to_owned(),
            entrypoint: words(&["/entry", "-e"]),
            cmd: words(&["own"]),
            env: words(&["A=image", "B=image=2", "odd"]),
            working_dir: "/srv".to_owned(),
            ..OwnImage::default()
        })
    }

    fn model() -> Model {
        let mut settings = Settings::instant();
        settings.machine = "x86_64".to_owned();
        settings.front_tag = Some(("front".to_owned(), "yes".to_owned()));
        let mut model = Model::new(settings);
        let zstd = OwnImage { unsupported: Some("layer 1 is compressed with zstd".to_owned()), ..OwnImage::default() };
        model.set_images(BTreeMap::from([
            ("app:1".to_owned(), vec![image("aa", "arm64"), image("bb", "x86_64")]),
            ("arm:latest".to_owned(), vec![image("cc", "arm64")]),
            ("zstd:latest".to_owned(), vec![Arc::new(zstd)]),
        ]));
        model
    }

    fn function(uri: &str) -> CreateFunction {
        CreateFunction {
            function_name: "f".to_owned(),
            role: ROLE.to_owned(),
            code: Code { image_uri: Some(uri.to_owned()) },
            package_type: Some("Image".to_owned()),
            ..CreateFunction::default()
        }
    }

    fn refusal(model: &mut Model, shape: CreateFunction) -> Option<String> {
        match model.call(1, &Request::CreateFunction(Box::new(shape))).outcome {
            Outcome::Answer(Err(error)) => Some(error.message),
            _ => None,
        }
    }

    fn state(model: &Model) -> (String, String) {
        let function = &model.functions.live["f"];
        let (state, reason) = function.state(model.now, None);
        (state.to_owned(), reason.map(|reason| reason.message).unwrap_or_default())
    }

    /// What is started for an invocation.
    fn started(model: &mut Model) -> Arc<EnvironmentSpec> {
        let invoke = Invoke { function: FunctionName::parse("f", None), ..Invoke::default() };
        model.call(5, &Request::Invoke(invoke));
        let effects = model.advance(5);
        effects.into_iter().find_map(|effect| if let Effect::Start(spec) = effect { Some(spec) } else { None }).unwrap()
    }

    #[test]
    fn a_function_is_pending_until_its_images_files_are_there() {
        let mut model = model();
        assert_eq!(refusal(&mut model, function("docker.io/library/app:1")), None);
        let [Effect::Prepare(own)] = &model.advance(1)[..] else { panic!() };
        assert_eq!(own.digest, "bb", "the function's architecture");
        model.advance(1_000);
        assert_eq!(state(&model).0, "Pending");
        model.prepared(2_000, "aa", None);
        assert_eq!(state(&model).0, "Pending", "another image");
        model.prepared(2_000, "bb", None);
        assert_eq!(state(&model).0, "Active");
    }

    #[test]
    fn an_image_that_cannot_be_unpacked_fails_its_function() {
        let mut model = model();
        refusal(&mut model, function("app:1"));
        model.prepared(2, "bb", Some("the layer is torn"));
        assert_eq!(state(&model), ("Failed".to_owned(), "the layer is torn".to_owned()));
    }

    #[test]
    fn what_lambda_would_not_run() {
        let mut model = model();
        let message = refusal(&mut model, function("zstd")).unwrap();
        assert!(
            message.starts_with("The image manifest, config or layer media type for the source image zstd"),
            "{message}"
        );
        assert!(message.ends_with("layer 1 is compressed with zstd."), "{message}");
        let message = refusal(&mut model, function("app:2")).unwrap();
        assert!(message.ends_with("The sandbox has: app:1, arm:latest, host:latest, zstd:latest."), "{message}");
        for (uri, architecture, sentence) in [
            ("arm", "x86_64", "The image is for the architecture arm64, and the function for x86_64."),
            ("arm", "arm64", "The image is for the architecture arm64, and this sandbox runs on x86_64."),
        ] {
            let mut model = self::model();
            let architectures = Some(vec![architecture.to_owned()]);
            assert_eq!(refusal(&mut model, CreateFunction { architectures, ..function(uri) }), None);
            assert!(model.advance(1).iter().all(|effect| !matches!(effect, Effect::Prepare(_))));
            assert_eq!(state(&model), ("Failed".to_owned(), sentence.to_owned()));
            let reason = model.functions.live["f"].state(model.now, None).1.unwrap();
            assert_eq!(reason.code, "InvalidImage");
        }
    }

    #[test]
    fn the_functions_words_replace_the_images_as_in_docker() {
        let config = |entry_point: Option<&[&str]>, command: Option<&[&str]>, directory: Option<&str>| ImageConfig {
            entry_point: entry_point.map(words),
            command: command.map(words),
            working_directory: directory.map(str::to_owned),
        };
        for (image_config, entrypoint, command, directory) in [
            (None, &["/entry", "-e"][..], &["own"][..], "/srv"),
            (Some(config(None, Some(&["x"]), None)), &["/entry", "-e"], &["x"], "/srv"),
            (Some(config(Some(&["/sh"]), None, None)), &["/sh"], &[], "/srv"),
            (Some(config(Some(&["/sh"]), Some(&["-c"]), Some("/"))), &["/sh"], &["-c"], "/"),
        ] {
            let mut model = model();
            let variables =
                BTreeMap::from([("AA".to_owned(), "f".to_owned()), ("A".to_owned(), "function".to_owned())]);
            let mut shape = CreateFunction { image_config, ..function("app:1") };
            // One letter is no variable of Lambda's, but the image may have it.
            shape.environment = Some(crate::model::lambda_api::Environment {
                variables: variables.into_iter().filter(|(name, _)| name.len() > 1).collect(),
            });
            assert_eq!(refusal(&mut model, shape), None);
            model.prepared(2, "bb", None);
            let spec = started(&mut model);
            assert_eq!((spec.entrypoint.clone(), spec.command.clone()), (words(entrypoint), words(command)));
            assert_eq!(spec.working_dir.as_deref(), Some(directory));
            assert_eq!(
                (spec.env["A"].as_str(), spec.env["B"].as_str(), spec.env["AA"].as_str()),
                ("image", "image=2", "f")
            );
            assert!(!spec.front && spec.env["AWS_LAMBDA_FUNCTION_NAME"] == "f" && !spec.env.contains_key("odd"));
        }
    }

    #[test]
    fn a_tag_asks_for_the_bootstrap_in_front() {
        for (value, front) in [("yes", true), ("no", false)] {
            let mut model = model();
            let tags = BTreeMap::from([("front".to_owned(), value.to_owned())]);
            refusal(&mut model, CreateFunction { tags, ..function("app:1") });
            model.prepared(2, "bb", None);
            assert_eq!(started(&mut model).front, front);
        }
        let mut model = model();
        refusal(&mut model, function("host"));
        let spec = started(&mut model);
        assert!(spec.front && spec.image.is_none(), "this machine's files never have it");
    }

    #[test]
    fn an_update_waits_for_its_image_and_falls_back() {
        let mut model = model();
        refusal(&mut model, function("host"));
        let update = UpdateFunctionCode {
            function_name: "f".to_owned(),
            image_uri: Some("app:1".to_owned()),
            ..UpdateFunctionCode::default()
        };
        model.call(10, &Request::UpdateFunctionCode(Box::new(update)));
        assert!(model.advance(10).iter().any(|effect| matches!(effect, Effect::Prepare(_))));
        model.advance(500);
        assert!(model.settled(&model.functions.live["f"]).is_err(), "in progress");
        model.prepared(1_000, "bb", Some("torn"));
        assert!(model.settled(&model.functions.live["f"]).is_ok());
        assert!(started(&mut model).image.is_none(), "the image before");
    }
}

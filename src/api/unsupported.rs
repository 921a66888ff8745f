//! What the backend cannot do, and the sentence that says so.

use super::error::ApiError;

/// A refusal that needs to look at nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 501 with this sentence.
    NotSupported(&'static str),
    /// Docker's 503 of a node without a swarm: what clients expect there.
    NotASwarmManager,
}

impl Refusal {
    /// The internal API's words for the same refusal.
    pub(super) fn internally(self) -> Self {
        match self {
            NETWORKS => NETWORKS_INTERNAL,
            VOLUMES => VOLUMES_INTERNAL,
            other => other,
        }
    }

    /// The error that says it.
    pub(super) fn error(self) -> ApiError {
        match self {
            Self::NotSupported(sentence) => ApiError::Unsupported(sentence.to_owned()),
            Self::NotASwarmManager => ApiError::NotASwarmManager,
        }
    }
}

macro_rules! refusals {
    ($($name:ident = $sentence:expr;)*) => {
        $(pub(super) const $name: Refusal = Refusal::NotSupported($sentence);)*
        /// Every sentence, for the test that reads them.
        #[cfg(test)]
        pub(super) const ALL: &[Refusal] = &[$($name),*];
    };
}

refusals! {
    EXEC = "This backend (lambda) does not support exec. CI runners require exec-capable backends (ecs, cloudrun, aca, docker).";
    ATTACH = "This backend (lambda) does not support attach. CI runners require exec-capable backends (ecs, cloudrun, aca, docker).";
    NETWORKS = "This backend (lambda) does not support networks. Leave the network out, or use `network_mode: none` in a compose file.";
    NETWORKS_INTERNAL = "This backend (lambda) does not support networks.";
    VOLUMES = "This backend (lambda) does not support volumes. Put the files into the image, or fetch them when the program starts.";
    VOLUMES_INTERNAL = "This backend (lambda) does not support volumes.";
    PLUGINS = "This backend (lambda) does not support plugins.";
    LOAD = "This backend (lambda) does not support image load. Push the image to Amazon ECR: Lambda pulls it from there.";
    BUILD = "This backend (lambda) does not support build. Build the image elsewhere and push it to Amazon ECR.";
    PUSH = "This backend (lambda) does not support push: it holds no image data. Push to Amazon ECR from where the image was built.";
    SAVE = "This backend (lambda) does not support image save: it holds no image data. Pull the image from Amazon ECR.";
    COMMIT = "This backend (lambda) does not support commit: a function leaves no file system behind. Build an image instead.";
    ARCHIVE = "This backend (lambda) does not support copying files (archive): a function has no file system that outlives it. Put files into the image, and results into S3 or the log.";
    EXPORT = "This backend (lambda) does not support export: a function has no file system that outlives it. Export the image instead.";
    CHANGES = "This backend (lambda) does not support changes (diff): a function has no file system that outlives it.";
    TOP = "This backend (lambda) does not support top: the processes of a function cannot be listed. Let the program write to its log.";
    PAUSE = "This backend (lambda) does not support pause: a running invocation cannot be held. Split the work into several containers.";
    UNPAUSE = "This backend (lambda) does not support unpause: a running invocation cannot be held.";
    UPDATE = "This backend (lambda) does not support update. Remove the container and create it with the new settings.";
    SEARCH = "This backend (lambda) does not support image search. Search in Amazon ECR.";
    STATS = "This backend (lambda) does not support stats. Lambda's metrics are in CloudWatch.";
    RESIZE = "This backend (lambda) does not support resize.";
    SWARM = "This backend (lambda) does not support swarm.";
    DISTRIBUTION = "This backend (lambda) does not support distribution inspect. Ask Amazon ECR for the image's manifest.";
    SESSION = "This backend (lambda) does not support sessions: images are built elsewhere and pushed to Amazon ECR.";
    IMPORT = "This backend (lambda) does not support import. Build an image and push it to Amazon ECR.";
}

/// Docker's 503.
pub(super) const NO_SWARM: Refusal = Refusal::NotASwarmManager;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_names_the_backend() {
        for refusal in ALL {
            let error = refusal.error();
            assert_eq!(error.status(), 501);
            let sentence = error.to_string();
            assert!(sentence.starts_with("This backend (lambda) does not support "), "{sentence}");
            assert!(sentence.ends_with('.'), "{sentence}");
        }
        assert_eq!(NO_SWARM.error().status(), 503);
    }

    #[test]
    fn the_sentences_that_frontends_look_for() {
        for (refusal, sentence) in [
            (
                EXEC,
                "This backend (lambda) does not support exec. CI runners require exec-capable backends (ecs, \
                 cloudrun, aca, docker).",
            ),
            (
                ATTACH,
                "This backend (lambda) does not support attach. CI runners require exec-capable backends (ecs, \
                 cloudrun, aca, docker).",
            ),
            (NETWORKS_INTERNAL, "This backend (lambda) does not support networks."),
            (VOLUMES_INTERNAL, "This backend (lambda) does not support volumes."),
        ] {
            assert_eq!(refusal.error().to_string(), sentence);
        }
    }
}

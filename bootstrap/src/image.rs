//! What the image gives: its own entrypoint and command, as Docker knows them. Pure.
//!
//! Lambda starts the image's ENTRYPOINT and CMD as one list of words. In front of an image that had an entrypoint of its
//! own, the bootstrap has to know where that ends, because a container's command replaces CMD and nothing else:
//!
//! ```dockerfile
//! ENTRYPOINT ["/sockerless-bootstrap", "--entrypoint=docker-entrypoint.sh", "--"]
//! CMD ["serve"]
//! ```
//!
//! One `--entrypoint=` for each word of it, then `--`. Without, all arguments are CMD.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::program::os_strings;
use crate::protocol::Order;

const WORD: &[u8] = b"--entrypoint=";
const END: &str = "--";

/// The image's own settings for what is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The program that commands are given to, with its first arguments; empty: a command is a program itself.
    pub entrypoint: Vec<OsString>,
    /// The command when a container brings none.
    pub cmd: Vec<OsString>,
}

/// Arguments that cannot be meant so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after the --entrypoint= words the bootstrap needs the word {END}, so that the image's CMD can follow it")]
pub struct InvalidArguments;

impl Image {
    /// Reads the arguments that Lambda gives to the bootstrap.
    ///
    /// # Errors
    ///
    /// If the words of the entrypoint do not end with `--`.
    pub fn from_arguments(arguments: Vec<OsString>) -> Result<Self, InvalidArguments> {
        let words = arguments.iter().map_while(|word| word.as_bytes().strip_prefix(WORD));
        let entrypoint: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
        if entrypoint.is_empty() {
            return Ok(Self { entrypoint, cmd: arguments });
        }
        let mut rest = arguments.into_iter().skip(entrypoint.len());
        if rest.next().is_some_and(|word| word == END) {
            Ok(Self { entrypoint, cmd: rest.collect() })
        } else {
            Err(InvalidArguments)
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entrypoint.is_empty() && self.cmd.is_empty()
    }

    /// What an order runs: as in Docker, its command replaces CMD, or everything if it brings its own entrypoint.
    pub(crate) fn command(&self, order: &Order) -> Vec<OsString> {
        let given = os_strings(order.command.clone());
        if !given.is_empty() && !order.after_entrypoint {
            return given;
        }
        let cmd = if given.is_empty() { self.cmd.clone() } else { given };
        self.entrypoint.iter().cloned().chain(cmd).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::VERSION;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_entrypoints_words_end_with_two_dashes() {
        for (arguments, entrypoint, cmd) in [
            (&[][..], &[][..], &[][..]),
            (&["sh", "-c", "x"], &[], &["sh", "-c", "x"]),
            (&["sh", "--entrypoint=a", "--"], &[], &["sh", "--entrypoint=a", "--"]),
            (&["--", "x"], &[], &["--", "x"]),
            (&["--entrypoint=tini", "--entrypoint=--", "--entrypoint=e", "--"], &["tini", "--", "e"], &[]),
            (&["--entrypoint=e", "--", "--entrypoint=x", "--"], &["e"], &["--entrypoint=x", "--"]),
            (&["--entrypoint=", "--", "x"], &[""], &["x"]),
        ] {
            let image = Image::from_arguments(words(arguments)).unwrap();
            assert_eq!(image, Image { entrypoint: words(entrypoint), cmd: words(cmd) }, "{arguments:?}");
        }
        for arguments in [&["--entrypoint=e"][..], &["--entrypoint=e", "x", "--"]] {
            assert_eq!(Image::from_arguments(words(arguments)), Err(InvalidArguments), "{arguments:?}");
        }
    }

    #[test]
    fn a_command_replaces_what_it_replaces_in_docker() {
        let image = Image { entrypoint: words(&["e", "1"]), cmd: words(&["c"]) };
        for (command, after_entrypoint, expected) in [
            (&[][..], true, &["e", "1", "c"][..]),
            (&["x", "y"], true, &["e", "1", "x", "y"]),
            (&["x", "y"], false, &["x", "y"]),
            (&[], false, &["e", "1", "c"]),
        ] {
            let order = Order {
                version: VERSION,
                token: String::new(),
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                after_entrypoint,
                env: Vec::new(),
                working_dir: None,
                tty: false,
                payload: None,
            };
            assert_eq!(image.command(&order), words(expected), "{command:?} {after_entrypoint}");
        }
    }
}

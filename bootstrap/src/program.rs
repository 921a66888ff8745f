//! From an order to something that can be started: variables, PATH and working directory, with Docker's words for
//! what cannot be started.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::environment::Variables;

/// PATH of a program that has none, as in Docker.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// HOME of a program that has none, or one that it cannot write to: the only writable place on Lambda.
const DEFAULT_HOME: &str = "/tmp";
/// Names the payload's file.
const PAYLOAD_FILE: &str = "SOCKERLESS_PAYLOAD_FILE";
/// Where tracing libraries look for the invocation's trace.
const TRACE_ID: &str = "_X_AMZN_TRACE_ID";

/// The exit code of a program that was found but cannot be executed.
const CANNOT_EXECUTE: u8 = 126;
/// The exit code of a program that was not found.
const NOT_FOUND: u8 = 127;

/// Why a program could not be started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotStarted {
    pub(crate) exit_code: u8,
    pub(crate) message: String,
}

impl NotStarted {
    fn not_found(message: String) -> Self {
        Self { exit_code: NOT_FOUND, message }
    }

    /// 127 if something is not there, 126 for everything else.
    fn because(subject: &str, error: &io::Error) -> Self {
        let reason = match error.raw_os_error() {
            Some(code) => Errno::from_raw(code).desc().to_lowercase(),
            None => error.to_string(),
        };
        let exit_code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
        Self { exit_code, message: format!("{subject}: {reason}") }
    }
}

/// What to start.
pub(crate) struct Program<'a> {
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// What it inherits.
    pub(crate) inherited: &'a Variables,
    /// `NAME=value` is added; a NAME alone is taken away, as in Docker.
    pub(crate) env: &'a [String],
    pub(crate) working_dir: Option<&'a str>,
    pub(crate) payload_file: Option<&'a Path>,
    pub(crate) trace_id: Option<&'a str>,
    pub(crate) stdin: bool,
    /// Stdout and stderr are one.
    pub(crate) one_stream: bool,
}

impl Program<'_> {
    /// Looks the program up. The command is in a process group of its own, so that its signals are its own, too.
    pub(crate) fn prepare(self) -> Result<Prepared, NotStarted> {
        let variables = self.variables(is_writable_directory);
        let directory = Path::new(self.working_dir.filter(|directory| !directory.is_empty()).unwrap_or("."));
        check_directory(directory)?;
        let Some((name, arguments)) = self.command.split_first() else {
            return Err(NotStarted::not_found("no command specified".to_owned()));
        };
        let path = variables.get(OsStr::new("PATH")).map(OsString::as_os_str).unwrap_or_default();
        let mut command = Command::new(look_up(name, path, directory)?);
        command.arg0(name).args(arguments).env_clear().envs(variables).current_dir(directory).process_group(0);
        command.stdin(if self.stdin { Stdio::piped() } else { Stdio::null() });
        let output = if self.one_stream {
            Some(one_pipe(&mut command)?)
        } else {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        };
        Ok(Prepared { command, name: name.to_string_lossy().into_owned(), output })
    }

    fn variables(&self, usable_home: impl Fn(&Path) -> bool) -> Variables {
        let mut variables = self.inherited.clone();
        for entry in self.env {
            match entry.split_once('=') {
                Some((name, value)) => drop(variables.insert(name.into(), value.into())),
                None => drop(variables.remove(OsStr::new(entry))),
            }
        }
        variables.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        if !variables.get(OsStr::new("HOME")).is_some_and(|home| usable_home(Path::new(home))) {
            variables.insert("HOME".into(), DEFAULT_HOME.into());
        }
        if let Some(file) = self.payload_file {
            variables.insert(PAYLOAD_FILE.into(), file.into());
        }
        if let Some(trace_id) = self.trace_id {
            variables.insert(TRACE_ID.into(), trace_id.into());
        }
        // Neither can be a variable's name.
        variables.retain(|name, _| !name.is_empty() && !name.as_bytes().contains(&b'='));
        variables
    }
}

/// A program that was found.
pub(crate) struct Prepared {
    command: Command,
    name: String,
    /// The other end of stdout and stderr, if they are one.
    output: Option<PipeReader>,
}

impl Prepared {
    /// Starts it. An error: the kernel refused to execute what was found.
    pub(crate) fn start(mut self, spawn: impl FnOnce(&mut Command) -> io::Result<Child>) -> Result<Child, NotStarted> {
        let refused = |error| NotStarted::because(&format!("exec {:?}", self.name), &error);
        let mut child = spawn(&mut self.command).map_err(refused)?;
        if let Some(output) = self.output {
            child.stdout = Some(OwnedFd::from(output).into());
        }
        Ok(child)
    }
}

/// Lets a command write stdout and stderr into one pipe. Its writers are the command's: with it they are closed.
fn one_pipe(command: &mut Command) -> Result<PipeReader, NotStarted> {
    let mut pipe = || {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        Ok(reader)
    };
    pipe().map_err(|error| NotStarted::because("output", &error))
}

fn is_writable_directory(path: &Path) -> bool {
    path.is_dir() && access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// A directory that is not there is made, as Docker does, where a function can write.
fn check_directory(directory: &Path) -> Result<(), NotStarted> {
    let check = || {
        if directory.starts_with(DEFAULT_HOME) && !directory.exists() {
            std::fs::create_dir_all(directory)?;
        }
        if std::fs::metadata(directory)?.is_dir() {
            Ok(access(directory, AccessFlags::X_OK)?)
        } else {
            Err(io::Error::from(Errno::ENOTDIR))
        }
    };
    check().map_err(|error| NotStarted::because(&format!("chdir to working directory {directory:?}"), &error))
}

/// What to give to the kernel for `name`: as it is if it has a slash, else the first match of PATH.
fn look_up(name: &OsStr, path: &OsStr, directory: &Path) -> Result<PathBuf, NotStarted> {
    let is_path = name.as_bytes().contains(&b'/');
    if is_path {
        let subject = format!("exec: {name:?}");
        return match executable(&directory.join(name)) {
            Ok(()) => Ok(name.into()),
            Err(error) => Err(NotStarted::because(&subject, &error)),
        };
    }
    std::env::split_paths(path)
        .map(|entry| entry.join(name))
        .find(|candidate| !name.is_empty() && executable(&directory.join(candidate)).is_ok())
        // A match of an empty entry of PATH has no slash, and the kernel's caller would search again.
        .map(|found| if found.as_os_str() == name { Path::new(".").join(found) } else { found })
        .ok_or_else(|| NotStarted::not_found(format!("exec: {name:?}: executable file not found in $PATH")))
}

fn executable(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::from(Errno::EISDIR));
    }
    Ok(access(path, AccessFlags::X_OK)?)
}

/// What the daemon wrote as text, for the kernel.
pub(crate) fn os_strings(words: Vec<String>) -> Vec<OsString> {
    words.into_iter().map(|word| OsString::from_vec(word.into_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program<'a>(inherited: &'a Variables, env: &'a [String]) -> Program<'a> {
        Program {
            command: Vec::new(),
            inherited,
            env,
            working_dir: None,
            payload_file: None,
            trace_id: None,
            stdin: false,
            one_stream: false,
        }
    }

    #[test]
    fn variables_are_added_replaced_and_removed() {
        let inherited =
            Variables::from([("A".into(), "1".into()), ("B".into(), "2".into()), ("HOME".into(), "/root".into())]);
        let env = ["A=3=4".to_owned(), "B".to_owned(), "=x".to_owned(), "C=".to_owned()];
        let variables = program(&inherited, &env).variables(|home| home == Path::new("/root"));
        let names: Vec<_> = variables.iter().map(|(name, value)| format!("{name:?}={value:?}")).collect();
        assert_eq!(names, [r#""A"="3=4""#, r#""C"="""#, r#""HOME"="/root""#, &format!(r#""PATH"="{DEFAULT_PATH}""#)]);
        let variables = program(&inherited, &env).variables(|_| false);
        assert_eq!(variables[OsStr::new("HOME")], "/tmp");
    }

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        std::fs::create_dir_all(bin.join("folder")).unwrap();
        for (name, mode) in [("tool", 0o755), ("text", 0o644)] {
            std::fs::write(bin.join(name), "").unwrap();
            std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let find = |name: &str, path: &str| {
            look_up(OsStr::new(name), OsStr::new(path), directory.path())
                .map(|found| found.strip_prefix(directory.path()).unwrap_or(&found).display().to_string())
                .map_err(|error| (error.exit_code, error.message))
        };
        let absolute = bin.display().to_string();
        assert_eq!(find("tool", &format!("/nonexistent:{absolute}")), Ok("bin/tool".into()));
        assert_eq!(find("tool", "bin"), Ok("bin/tool".into()));
        assert_eq!(find("bin/tool", ""), Ok("bin/tool".into()));
        for name in ["absent", "text", "folder", ""] {
            let message = format!("exec: {name:?}: executable file not found in $PATH");
            assert_eq!(find(name, &absolute), Err((127, message)));
        }
        let failures = [
            ("bin/text", 126, "permission denied"),
            ("bin/folder", 126, "is a directory"),
            ("bin/absent", 127, "no such file or directory"),
            ("bin/text/x", 126, "not a directory"),
        ];
        for (name, code, reason) in failures {
            assert_eq!(find(name, ""), Err((code, format!("exec: {name:?}: {reason}"))));
        }
    }

    #[test]
    fn a_working_directory_has_to_be_there() {
        assert_eq!(check_directory(Path::new("/")), Ok(()));
        let absent = check_directory(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(absent.exit_code, 127);
        assert_eq!(absent.message, r#"chdir to working directory "/nonexistent": no such file or directory"#);
        assert_eq!(check_directory(Path::new("/dev/null")).unwrap_err().exit_code, 126);
    }
}

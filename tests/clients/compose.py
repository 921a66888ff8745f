"""docker compose against the daemon: up, ps, logs, run, down, exit codes.

Run by with-daemon.sh, which sets DOCKER_HOST; the compose plug-in is found in DOCKER_CONFIG.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import unittest

PATIENCE = 60
TWO = """
services:
  first:
    image: host
    network_mode: none
    command: ["sh", "-c", "echo one; sleep 1; echo two"]
    labels: {team: blue}
  job:
    image: host
    network_mode: none
    environment: {WORD: hello}
    mem_limit: 256m
    depends_on:
      first: {condition: service_completed_successfully}
    command: ["sh", "-c", "echo $$WORD; echo bad >&2; exit 3"]
"""
ONE = """
services:
  job:
    image: host
    network_mode: none
    command: ["sh", "-c", "echo begin; sleep 1; echo end"]
"""
GATE = os.path.join(os.environ["SHARED"], "gate")
HELD = ONE.replace("sleep 1", f"until [ -e {GATE} ]; do sleep 0.05; done")


class Compose(unittest.TestCase):
    def project(self, text):
        self.folder = tempfile.TemporaryDirectory(prefix="project")
        self.addCleanup(self.folder.cleanup)
        pathlib.Path(self.folder.name, "compose.yaml").write_text(text)
        self.addCleanup(self.compose, "down", "--remove-orphans")
        pathlib.Path(GATE).unlink(missing_ok=True)

    def compose(self, *arguments):
        command = ["docker", "compose", "--ansi", "never", "--progress", "plain", *arguments]
        came = subprocess.run(command, cwd=self.folder.name, capture_output=True, text=True, timeout=PATIENCE)
        came.lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).rstrip() for line in came.stdout.splitlines()]
        return came

    def ok(self, *arguments):
        came = self.compose(*arguments)
        self.assertEqual(came.returncode, 0, came.stderr)
        return came

    def open_gate_during(self, path, *arguments):
        """Lets the program end once the command has made a request with this path."""
        log = pathlib.Path(os.environ["DAEMON_LOG"])
        made = log.read_text().count(f'{path}"')
        command = ["docker", "compose", "--ansi", "never", *arguments]
        running = subprocess.Popen(command, cwd=self.folder.name, stdout=subprocess.PIPE, text=True)
        while log.read_text().count(f'{path}"') == made and running.poll() is None:
            time.sleep(0.02)
        pathlib.Path(GATE).touch()
        stdout, _ = running.communicate(timeout=PATIENCE)
        self.assertEqual(running.returncode, 0)
        return subprocess.CompletedProcess(command, 0, stdout)

    def until_ended(self, names):
        subprocess.run(["docker", "wait", *names], check=True, capture_output=True, timeout=PATIENCE)

    def states(self):
        listed = [json.loads(line) for line in self.ok("ps", "-a", "--format", "json").lines]
        return {entry["Service"]: (entry["State"], entry["ExitCode"]) for entry in listed}

    def test_up_takes_the_exit_code_of_a_service(self):
        self.project(TWO)
        came = self.compose("up", "--exit-code-from", "job")
        self.assertEqual(came.returncode, 3)
        said = [line for line in came.lines if "|" in line]
        self.assertEqual([line.split("|")[1].strip() for line in said], ["one", "two", "hello"])
        self.assertIn("bad", came.stderr)
        self.assertIn("job-1 exited with code 3", came.stdout)
        self.assertEqual(self.states(), {"first": ("exited", 0), "job": ("exited", 3)})

    def test_up_until_all_have_ended(self):
        self.project(ONE)
        came = self.ok("up")
        self.assertEqual([line for line in came.lines if "|" in line], ["job-1  | begin", "job-1  | end"])
        self.assertIn("job-1 exited with code 0", came.stdout)

    def test_up_aborts_on_failure(self):
        self.project(TWO)
        self.assertEqual(self.compose("up", "--abort-on-container-failure").returncode, 3)

    def test_up_detached_ps_logs_down(self):
        self.project(HELD)
        self.ok("up", "-d")
        self.assertEqual(self.states(), {"job": ("running", 0)})
        came = self.open_gate_during("/events", "logs", "-f", "--no-log-prefix")
        self.assertEqual(came.stdout.splitlines()[:2], ["begin", "end"])
        self.assertEqual(self.states(), {"job": ("exited", 0)})
        self.assertEqual(self.ok("logs", "--no-log-prefix", "--tail", "1").lines, ["end"])
        self.assertEqual(self.ok("ps", "-q").lines, [])
        self.ok("down")
        self.assertEqual(self.states(), {})

    def test_wait(self):
        self.project(HELD)
        self.ok("up", "-d")
        self.open_gate_during("/wait", "wait", "job")

    def test_up_again(self):
        self.project(ONE)
        self.ok("up", "-d", "--wait-timeout", "30")
        first = self.ok("ps", "-aq").lines
        self.until_ended(first)
        self.ok("up", "-d")
        self.assertEqual(self.ok("ps", "-aq").lines, first, "the same container is started again")
        self.until_ended(first)
        self.ok("up", "-d", "--force-recreate")
        self.assertNotEqual(self.ok("ps", "-aq").lines, first)

    def test_run(self):
        self.project(TWO)
        came = self.ok("run", "--rm", "-T", "--no-deps", "-e", "WORD=bye", "job", "sh", "-c", "echo $WORD")
        self.assertEqual(came.lines, ["bye"])
        came = self.compose("run", "--rm", "-T", "--no-deps", "job")
        self.assertEqual((came.returncode, came.lines), (3, ["hello"]))
        self.assertIn("bad", came.stderr)
        # Its dependency is run before.
        self.assertEqual(self.ok("run", "--rm", "-T", "job", "echo", "after").lines, ["after"])
        self.assertEqual(self.states(), {"first": ("exited", 0)})

    def test_create_start_stop_rm(self):
        self.project(ONE)
        self.ok("create")
        self.assertEqual(self.states(), {"job": ("created", 0)})
        self.ok("start")
        self.ok("stop", "-t", "1")
        self.ok("kill")
        # Nothing that runs can be stopped; once it has ended, or if it had not begun, it can go.
        self.until_ended(self.ok("ps", "-aq").lines)
        self.ok("rm", "-f")
        self.assertEqual(self.states(), {})

    def test_pull_images_ls(self):
        self.project(ONE)
        self.ok("pull")
        self.ok("create")
        self.assertIn("host", self.ok("images").stdout)
        self.assertEqual(len(self.ok("images", "-q").lines), 1)
        self.assertIn(pathlib.Path(self.folder.name).name, self.ok("ls", "-a").stdout)

    def test_settings_reach_the_container(self):
        self.project(TWO)
        self.ok("create")
        name = self.ok("ps", "-aq", "job").lines[0]
        shown = subprocess.run(["docker", "inspect", name], check=True, capture_output=True, text=True).stdout
        (shown,) = json.loads(shown)
        self.assertEqual(shown["HostConfig"]["Memory"], 256 * 1024 * 1024)
        self.assertEqual(shown["Config"]["Labels"]["com.docker.compose.service"], "job")
        self.assertIn("WORD=hello", shown["Config"]["Env"])

    def refused(self, text, sentence):
        self.project("services:\n  job:\n    image: host\n    command: [\"true\"]\n" + text)
        came = self.compose("up", "-d")
        self.assertNotEqual(came.returncode, 0)
        self.assertIn(sentence, came.stderr)

    def test_a_network_is_refused(self):
        self.refused("", "This backend (lambda) does not support networks. Leave the network out, or use `network_mode: none`")

    def test_a_volume_is_refused(self):
        volume = "    network_mode: none\n    volumes: [\"data:/x\"]\nvolumes: {data: {}}\n"
        self.refused(volume, "This backend (lambda) does not support volumes.")

    def test_a_bind_is_refused(self):
        self.refused("    network_mode: none\n    volumes: [\"/srv:/x\"]\n", "bind source path does not exist: /srv")

    def test_exec_and_top_are_refused(self):
        self.project(ONE)
        self.ok("up", "-d")
        for words in (["exec", "-T", "job", "true"], ["top"]):
            came = self.compose(*words)
            self.assertNotEqual(came.returncode, 0)
            self.assertIn("This backend (lambda) does not support", came.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""docker-py against the daemon: the high-level client in all its forms, and the low-level one.

Run by with-daemon.sh, which sets DOCKER_HOST.
"""

import datetime
import io
import os
import pathlib
import threading
import time
import unittest

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import Mount

IMAGE = "host"
PATIENCE = 60
# A program that ends with `HELD` runs until the file is there.
GATE = pathlib.Path(os.environ["SHARED"], "gate")
HELD = f"until [ -e {GATE} ]; do sleep 0.05; done"


def shell(script):
    return ["sh", "-c", script]


class Case(unittest.TestCase):
    def setUp(self):
        GATE.unlink(missing_ok=True)
        self.client = docker.from_env(timeout=PATIENCE)
        self.addCleanup(self.client.close)
        self.addCleanup(self.remove_all)

    def remove_all(self):
        for container in self.client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True)

    def run_detached(self, script, **options):
        return self.client.containers.run(IMAGE, shell(script), detach=True, **options)

    def ended(self, script, **options):
        container = self.run_detached(script, **options)
        container.wait()
        return container

    def assert_refused(self, status, words, call, *arguments, **options):
        with self.assertRaises(APIError) as caught:
            call(*arguments, **options)
        self.assertEqual(caught.exception.status_code, status)
        self.assertIn(words, caught.exception.explanation)


class Run(Case):
    def test_output_of_a_list_and_of_a_string(self):
        self.assertEqual(self.client.containers.run(IMAGE, ["echo", "a  b"]), b"a  b\n")
        self.assertEqual(self.client.containers.run(IMAGE, "echo a  b"), b"a b\n")

    def test_remove(self):
        self.assertEqual(self.client.containers.run(IMAGE, ["echo", "hi"], remove=True), b"hi\n")
        self.assertEqual(self.client.containers.list(all=True), [])

    def test_auto_remove(self):
        self.assertEqual(self.client.containers.run(IMAGE, ["echo", "hi"], auto_remove=True), b"hi\n")
        self.until_removed()

    def test_auto_remove_detached(self):
        container = self.run_detached("echo hi; exit 3", auto_remove=True)
        self.assertEqual(b"".join(container.logs(stream=True, follow=True)), b"hi\n")
        self.assertEqual(container.wait()["StatusCode"], 3)
        self.until_removed()

    def until_removed(self):
        """The daemon removes right after `wait` has answered."""
        deadline = time.monotonic() + PATIENCE
        while self.client.containers.list(all=True, ignore_removed=True):
            self.assertLess(time.monotonic(), deadline)

    def test_stream(self):
        lines = self.client.containers.run(IMAGE, shell("echo a; sleep 1; echo b"), stream=True)
        self.assertEqual(b"".join(lines), b"a\nb\n")

    def test_which_output(self):
        script = shell("echo out; echo err >&2")
        self.assertEqual(self.client.containers.run(IMAGE, script), b"out\n")
        self.assertEqual(self.client.containers.run(IMAGE, script, stdout=False, stderr=True), b"err\n")
        both = self.client.containers.run(IMAGE, script, stdout=True, stderr=True)
        self.assertEqual(sorted(both.splitlines()), [b"err", b"out"])

    def test_failure(self):
        for options in ({}, {"remove": True}):
            with self.assertRaises(ContainerError) as caught:
                self.client.containers.run(IMAGE, shell("echo out; echo bad >&2; exit 4"), **options)
            self.assertEqual(caught.exception.exit_status, 4)
            self.assertEqual(caught.exception.stderr, b"bad\n")

    def test_detach(self):
        container = self.run_detached("sleep 1; exit 7", name="job")
        self.assertIn(container.status, ("created", "running"))
        self.assertEqual(container.name, "job")
        self.assertEqual(container.wait(), {"StatusCode": 7})
        container.reload()
        self.assertEqual(container.status, "exited")
        self.assertEqual(container.attrs["State"]["ExitCode"], 7)
        self.assertEqual(container.short_id, container.id[:12])

    def test_environment(self):
        script = shell('echo "$A,$B"')
        self.assertEqual(self.client.containers.run(IMAGE, script, environment={"A": "1", "B": "x y"}), b"1,x y\n")
        self.assertEqual(self.client.containers.run(IMAGE, script, environment=["A=1", "B=2"]), b"1,2\n")

    def test_entrypoint_and_working_directory(self):
        self.assertEqual(self.client.containers.run(IMAGE, ["a"], entrypoint="/bin/echo"), b"a\n")
        self.assertEqual(self.client.containers.run(IMAGE, ["b"], entrypoint=["/bin/echo", "a"]), b"a b\n")
        self.assertEqual(self.client.containers.run(IMAGE, "pwd", working_dir="/usr"), b"/usr\n")

    def test_settings_are_shown(self):
        container = self.client.containers.create(
            IMAGE,
            "true",
            labels={"a": "b"},
            mem_limit="300m",
            platform="linux/amd64",
            network_mode="none",
            restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
        )
        container.reload()
        attrs = container.attrs
        self.assertEqual(container.labels, {"a": "b"})
        self.assertEqual(attrs["HostConfig"]["Memory"], 300 * 1024 * 1024)
        self.assertEqual(attrs["HostConfig"]["NetworkMode"], "none")
        self.assertEqual(attrs["HostConfig"]["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 2})
        self.assertEqual(list(attrs["NetworkSettings"]["Networks"]), ["none"])
        self.assertEqual(container.image.tags, ["host:latest"])

    def test_labels_as_a_list(self):
        container = self.client.containers.create(IMAGE, "true", labels=["a"])
        self.assertEqual(self.client.containers.get(container.id).labels, {"a": ""})

    def test_terminal(self):
        container = self.run_detached("echo out; echo err >&2", tty=True)
        container.wait()
        self.assertEqual(sorted(container.logs().split(b"\r\n")), [b"", b"err", b"out"])

    def test_ports_are_ignored(self):
        container = self.client.containers.create(IMAGE, "true", ports={"80/tcp": 8080})
        self.assertEqual(container.ports, {})

    def test_what_a_function_does_not_have(self):
        run = self.client.containers.run
        bind = "bind source path does not exist: /srv"
        self.assert_refused(400, bind, run, IMAGE, "true", volumes={"/srv": {"bind": "/x", "mode": "rw"}})
        self.assert_refused(400, bind, run, IMAGE, "true", mounts=[Mount("/x", "/srv", type="bind")])
        self.assert_refused(501, "volumes", run, IMAGE, "true", volumes={"data": {"bind": "/x", "mode": "rw"}})
        self.assert_refused(501, "networks", run, IMAGE, "true", network="mine")
        self.assert_refused(501, "privileged", run, IMAGE, "true", privileged=True)
        self.assertEqual(self.client.containers.list(all=True), [])

    def test_an_image_that_lambda_does_not_have(self):
        container = self.client.containers.create("missing:1", "true")
        try:
            container.start()
            ended = container.wait()
            self.assertEqual(ended["StatusCode"], 125)
            self.assertIn("missing:1", ended["Error"]["Message"])
        except APIError as error:
            self.assertIn("missing:1", error.explanation)

    def test_a_name_that_is_taken(self):
        first = self.client.containers.create(IMAGE, "true", name="job")
        self.assert_refused(409, first.id, self.client.containers.create, IMAGE, "true", name="job")
        first.remove()
        self.client.containers.create(IMAGE, "true", name="job")

    def test_restart_policy(self):
        container = self.ended("echo run; exit 3", restart_policy={"Name": "on-failure", "MaximumRetryCount": 1})
        container.reload()
        self.assertEqual(container.attrs["RestartCount"], 1)
        self.assertEqual(container.logs(), b"run\nrun\n")


class Life(Case):
    def test_start_again(self):
        container = self.ended("echo run")
        container.start()
        container.wait()
        self.assertEqual(container.logs(), b"run\nrun\n")

    def test_stop_and_kill_are_not_felt(self):
        container = self.run_detached(f"{HELD}; exit 3")
        while not container.attrs["Sockerless"]["RequestId"] and container.status != "running":
            container.reload()
        # Until it is invoked, a stop would cancel it.
        while "Waiting" in str(container.attrs["Sockerless"]["Conditions"]):
            container.reload()
        container.stop(timeout=1)
        container.kill()
        self.assert_refused(409, "it is running", container.restart)
        GATE.touch()
        self.assertEqual(container.wait()["StatusCode"], 3)
        container.stop()
        self.assert_refused(409, "is not running", container.kill)
        container.restart()
        self.assertEqual(container.wait()["StatusCode"], 3)

    def test_rename(self):
        container = self.client.containers.create(IMAGE, "true", name="one")
        container.rename("two")
        self.assertEqual(self.client.containers.get("two").id, container.id)
        self.assertRaises(NotFound, self.client.containers.get, "one")

    def test_remove(self):
        container = self.run_detached(HELD)
        self.assert_refused(409, "container is running", container.remove)
        container.remove(force=True, v=True)
        self.assertRaises(NotFound, container.reload)

    def test_wait_conditions(self):
        container = self.client.containers.create(IMAGE, shell(f"{HELD}; exit 3"))
        self.assertEqual(container.wait()["StatusCode"], 0)
        log = pathlib.Path(os.environ["DAEMON_LOG"])
        waits = log.read_text().count("/wait\"")
        seen = []
        waiter = threading.Thread(target=lambda: seen.append(container.wait(condition="next-exit")["StatusCode"]))
        waiter.start()
        while log.read_text().count("/wait\"") == waits:
            pass
        container.start()
        GATE.touch()
        waiter.join(PATIENCE)
        self.assertEqual(seen, [3])
        self.assertEqual(container.wait(condition="not-running")["StatusCode"], 3)
        self.assert_refused(400, "invalid condition", container.wait, condition="nonsense")

    def test_prune(self):
        kept = self.ended("true", labels={"keep": ""})
        gone = self.ended("true")
        answer = self.client.containers.prune(filters={"label!": ["keep"]})
        self.assertEqual(answer, {"ContainersDeleted": [gone.id], "SpaceReclaimed": 0})
        self.assertEqual([c.id for c in self.client.containers.list(all=True)], [kept.id])
        self.assertEqual(self.client.containers.prune()["ContainersDeleted"], [kept.id])

    def test_stats(self):
        container = self.ended("true", mem_limit="256m")
        self.assertEqual(container.stats(stream=False)["memory_stats"]["limit"], 256 * 1024 * 1024)
        samples = container.stats(stream=True, decode=True)
        self.assertEqual([next(samples)["name"], next(samples)["id"]], ["/" + container.name, container.id])
        samples.close()

    def test_refusals(self):
        container = self.client.containers.create(IMAGE, "true")
        for call, arguments in (
            (container.exec_run, ["true"]),
            (container.top, []),
            (container.diff, []),
            (container.pause, []),
            (container.unpause, []),
            (container.commit, []),
            (container.put_archive, ["/tmp", b""]),
            (container.get_archive, ["/tmp"]),
            (lambda: list(container.export()), []),
        ):
            self.assert_refused(501, "This backend (lambda) does not support", call, *arguments)
        self.assert_refused(501, "does not support update", container.update, mem_limit="1g")


class Lists(Case):
    def names(self, **options):
        return [container.name for container in self.client.containers.list(**options)]

    def test_filters(self):
        self.client.containers.create(IMAGE, "true", name="one", labels={"a": "b"})
        self.ended("exit 3", name="two", labels={"a": "c"})
        self.run_detached(HELD, name="three")
        self.assertEqual(self.names(), ["three"])
        self.assertEqual(self.names(all=True), ["three", "two", "one"])
        self.assertEqual(self.names(limit=2), ["three", "two"])
        self.assertEqual(self.names(since="one", all=True), ["three", "two"])
        self.assertEqual(self.names(before="two", all=True), ["one"])
        two = self.client.containers.get("two")
        for filters, names in (
            ({"status": "exited"}, ["two"]),
            ({"status": ["exited", "created"]}, ["two", "one"]),
            ({"exited": 3}, ["two"]),
            ({"label": "a"}, ["two", "one"]),
            ({"label": ["a=b"]}, ["one"]),
            ({"label": ["a=b", "a=c"]}, []),
            ({"name": "^/t"}, ["three", "two"]),
            ({"id": two.id}, ["two"]),
            ({"ancestor": "host"}, ["three", "two", "one"]),
            ({"before": "three"}, ["two", "one"]),
        ):
            self.assertEqual(self.names(all=True, filters=filters), names, filters)
        self.assert_refused(400, "invalid filter 'nonsense'", self.names, filters={"nonsense": "1"})

    def test_sparse(self):
        self.client.containers.create(IMAGE, "true", name="job")
        (container,) = self.client.containers.list(all=True, sparse=True)
        self.assertEqual((container.attrs["Names"], container.status), (["/job"], "created"))

    def test_get(self):
        container = self.client.containers.create(IMAGE, "true", name="job")
        for name in ("job", "/job", container.id, container.id[:12], container.id[:4]):
            self.assertEqual(self.client.containers.get(name).id, container.id, name)
        self.assertRaises(NotFound, self.client.containers.get, "missing")


class Output(Case):
    def test_logs(self):
        container = self.ended("echo one; echo two >&2; echo three")
        self.assertEqual(container.logs(stderr=False), b"one\nthree\n")
        self.assertEqual(container.logs(stdout=False), b"two\n")
        self.assertEqual(container.logs(tail=1, stderr=False), b"three\n")
        self.assertEqual(len(container.logs(timestamps=True).splitlines()[0].split(b" ")), 2)
        early = datetime.datetime.utcnow() - datetime.timedelta(hours=1)
        self.assertEqual(container.logs(until=early), b"")
        self.assertEqual(container.logs(since=early, stderr=False), b"one\nthree\n")
        self.assertEqual(container.logs(since=early.timestamp() + 7200.5, stderr=False), b"")

    def test_follow(self):
        container = self.run_detached("echo one; sleep 1; echo two")
        self.assertEqual(b"".join(container.logs(stream=True, follow=True)), b"one\ntwo\n")
        self.assertEqual(b"".join(container.logs(stream=True)), b"one\ntwo\n")
        self.assertEqual(container.logs(follow=True), b"one\ntwo\n")

    def test_attach(self):
        container = self.client.containers.create(IMAGE, shell("echo out; echo err >&2"))
        stream = container.attach(stream=True, demux=True)
        container.start()
        pieces = list(stream)
        self.assertEqual(b"".join(out for out, _ in pieces if out), b"out\n")
        self.assertEqual(b"".join(err for _, err in pieces if err), b"err\n")
        # The end of the output may come before the container's.
        container.wait()
        self.assertEqual(sorted(container.attach(logs=True).splitlines()), [b"err", b"out"])

    def test_attach_socket(self):
        container = self.client.containers.create(IMAGE, ["echo", "out"])
        socket = container.attach_socket(params={"stdout": 1, "stream": 1})
        container.start()
        with socket:
            self.assertEqual(socket.read(), b"\x01\0\0\0\0\0\0\x04out\n")


class Events(Case):
    def test_recorded(self):
        begin = datetime.datetime.now(datetime.timezone.utc).timestamp()
        container = self.ended("exit 3", name="job", labels={"k": "v"})
        container.remove()
        end = datetime.datetime.now(datetime.timezone.utc).timestamp() + 1
        events = list(self.client.events(since=begin, until=end, decode=True, filters={"container": "job"}))
        self.assertEqual([event["Action"] for event in events], ["create", "start", "die", "destroy"])
        self.assertEqual(events[2]["Actor"]["Attributes"]["exitCode"], "3")
        self.assertEqual(events[0]["Actor"]["Attributes"]["k"], "v")
        self.assertEqual({event["id"] for event in events}, {container.id})

    def test_live(self):
        events = self.client.events(decode=True, filters={"type": "container", "event": ["create", "die"]})
        self.addCleanup(events.close)
        container = self.ended("true")
        self.assertEqual([next(events)["Action"], next(events)["Action"]], ["create", "die"])
        self.assertEqual(container.wait()["StatusCode"], 0)


class Images(Case):
    def setUp(self):
        super().setUp()
        self.client.images.pull(IMAGE)

    def test_pull(self):
        self.assertEqual(self.client.images.pull(IMAGE, tag="latest").tags, ["host:latest"])
        self.assertEqual(self.client.images.pull("registry.example/a/b:1").tags, ["registry.example/a/b:1"])
        lines = list(self.client.api.pull(IMAGE, tag="latest", stream=True, decode=True))
        self.assertIn("up to date", lines[-1]["status"])
        self.client.images.remove("registry.example/a/b:1")

    def test_tag_get_list_remove(self):
        image = self.client.images.get(IMAGE)
        self.assertTrue(image.tag("copy", tag="2"))
        image.reload()
        self.assertEqual(sorted(image.tags), ["copy:2", "host:latest"])
        self.assertEqual([i.id for i in self.client.images.list("copy")], [image.id])
        self.assertEqual(self.client.images.get(image.id).id, image.id)
        self.assertEqual(len(image.history()), 1)
        self.client.images.remove("copy:2")
        self.assertRaises(ImageNotFound, self.client.images.get, "copy:2")
        self.assertEqual(self.client.images.prune()["SpaceReclaimed"], 0)

    def test_refusals(self):
        images = self.client.images
        self.assert_refused(501, "search", images.search, "x")
        self.assert_refused(501, "load", images.load, b"")
        self.assert_refused(501, "push", self.client.api.push, "host")
        self.assert_refused(501, "save", lambda: list(images.get(IMAGE).save()))
        self.assert_refused(501, "build", lambda: list(self.client.api.build(fileobj=io.BytesIO(b"FROM scratch"))))
        self.assert_refused(501, "distribution", images.get_registry_data, "host")


class Rest(Case):
    def test_daemon(self):
        self.assertTrue(self.client.ping())
        self.assertEqual(self.client.version()["ApiVersion"], "1.51")
        self.assertEqual(self.client.info()["OperatingSystem"], "AWS Lambda")
        self.assertEqual(self.client.df()["Volumes"], [])
        self.assertIn("not used", self.client.login("me", "secret", registry="registry.example")["Status"])

    def test_versions(self):
        for version in ("1.24", "1.41", "1.51", "auto"):
            client = docker.DockerClient.from_env(version=version, timeout=PATIENCE)
            self.assertEqual(client.containers.run(IMAGE, ["echo", "hi"], remove=True), b"hi\n", version)
            client.close()

    def test_networks_and_volumes(self):
        self.assertEqual([network.name for network in self.client.networks.list()], ["bridge", "host", "none"])
        self.assertEqual(self.client.networks.get("bridge").attrs["Driver"], "bridge")
        self.assertRaises(NotFound, self.client.networks.get, "mine")
        self.assert_refused(501, "networks", self.client.networks.create, "mine")
        self.assertEqual(self.client.networks.prune(), {"NetworksDeleted": []})
        self.assertEqual(self.client.volumes.list(), [])
        self.assertRaises(NotFound, self.client.volumes.get, "data")
        self.assert_refused(501, "volumes", self.client.volumes.create, "data")
        self.assertEqual(self.client.volumes.prune()["SpaceReclaimed"], 0)
        self.assertEqual(self.client.plugins.list(), [])

    def test_swarm(self):
        self.assert_refused(503, "not a swarm manager", self.client.services.list)
        self.assert_refused(501, "swarm", self.client.swarm.init)

    def test_low_level(self):
        api = self.client.api
        host_config = api.create_host_config(mem_limit="256m", auto_remove=False, network_mode="bridge")
        created = api.create_container(
            IMAGE,
            command=shell("echo $A; exit 3"),
            environment={"A": "1"},
            name="job",
            labels=["x"],
            stdin_open=True,
            host_config=host_config,
        )
        self.assertEqual(len(created["Warnings"]), 1)
        container = created["Id"]
        api.start(container)
        self.assertEqual(api.wait(container), {"StatusCode": 3})
        self.assertEqual(api.logs(container), b"1\n")
        self.assertEqual(api.inspect_container(container)["State"]["ExitCode"], 3)
        self.assertEqual([c["Names"] for c in api.containers(all=True)], [["/job"]])
        api.resize(container, 24, 80)
        self.assertEqual(api.port(container, 80), None)
        api.remove_container(container)
        self.assertEqual(api.containers(all=True), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)

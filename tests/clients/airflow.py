"""The calls of Airflow's DockerOperator, one by one and in its order, with docker-py's low-level client.

As the operator of apache-airflow-providers-docker makes them: images, pull, create, attach before start, start, wait,
and the removal that `auto_remove` asks for. It mounts a temporary directory, and tries again without it where the
daemon's file system is another one. Run by with-daemon.sh, which sets DOCKER_HOST.
"""

import os
import unittest

from docker import APIClient
from docker.errors import APIError
from docker.types import LogConfig, Mount

IMAGE = "host"


class Failed(Exception):
    """As AirflowException and DockerContainerFailedException."""


class Operator:
    """What the operator does between `execute` and its result."""

    def __init__(self, command, image=IMAGE, auto_remove="never", force_pull=False, retrieve=False, **host):
        self.client = APIClient(base_url=os.environ["DOCKER_HOST"], version="auto", timeout=60)
        self.image, self.command, self.auto_remove, self.host = image, command, auto_remove, host
        self.force_pull = force_pull
        self.environment = {"AIRFLOW_CTX_DAG_ID": "dag"}
        self.container = None

    def execute(self):
        if self.force_pull or not self.client.images(name=self.image):
            statuses = {}
            for line in self.client.pull(self.image, stream=True, decode=True):
                statuses[line.get("id")] = line["status"]
        try:
            return self.run([Mount(target="/tmp/airflow", source="/tmp/airflowtmp", type="bind")])
        except APIError as error:
            if "airflowtmp" not in str(error):
                raise
            return self.run([])

    def run(self, mounts):
        if mounts:
            self.environment["AIRFLOW_TMP_DIR"] = "/tmp/airflow"
        else:
            self.environment.pop("AIRFLOW_TMP_DIR", None)
        self.container = self.client.create_container(
            command=self.command,
            name=None,
            environment=self.environment,
            ports=[],
            host_config=self.client.create_host_config(
                auto_remove=False,
                mounts=mounts,
                network_mode=None,
                shm_size=None,
                dns=None,
                dns_search=None,
                cpu_shares=1024,
                port_bindings={},
                mem_limit=self.host.get("mem_limit"),
                cap_add=None,
                extra_hosts=None,
                privileged=False,
                device_requests=None,
                log_config=LogConfig(config={}),
                ipc_mode=None,
            ),
            image=self.image,
            user=None,
            entrypoint=None,
            working_dir=self.host.get("working_dir"),
            tty=self.host.get("tty", False),
        )
        lines = self.client.attach(container=self.container["Id"], stdout=True, stderr=True, stream=True)
        try:
            self.client.start(self.container["Id"])
            # The operator logs each piece as it comes.
            logged = [piece.decode().rstrip("\r\n") for piece in lines]
            ended = self.client.wait(self.container["Id"])
            if ended["StatusCode"] != 0:
                raise Failed(ended["StatusCode"], "\n".join(logged))
            everything = self.client.logs(self.container["Id"], stdout=True, stderr=True, stream=True, tail="all")
            return b"".join(everything).decode().splitlines()
        finally:
            if self.auto_remove == "success" or self.auto_remove == "force":
                self.client.remove_container(self.container["Id"], force=self.auto_remove == "force")


class Airflow(unittest.TestCase):
    def operate(self, script, **options):
        self.operator = Operator(["sh", "-c", script], **options)
        self.addCleanup(self.operator.client.close)
        return self.operator.execute()

    def left(self):
        return self.operator.client.containers(all=True, filters={"id": self.operator.container["Id"]})

    def test_output(self):
        self.assertEqual(self.operate("echo one; sleep 1; echo two", auto_remove="success"), ["one", "two"])
        self.assertEqual(self.left(), [])

    def test_the_temporary_directory_is_given_up(self):
        self.assertEqual(self.operate('echo "${AIRFLOW_TMP_DIR-none}"', auto_remove="success"), ["none"])

    def test_failure(self):
        with self.assertRaises(Failed) as caught:
            self.operate("echo broken >&2; exit 4", auto_remove="force")
        self.assertEqual(caught.exception.args, (4, "broken"))
        self.assertEqual(self.left(), [])

    def test_pull_memory_and_directory(self):
        lines = self.operate("pwd", force_pull=True, mem_limit="256m", working_dir="/usr")
        self.assertEqual(lines, ["/usr"])
        shown = self.operator.client.inspect_container(self.operator.container["Id"])
        self.assertEqual(shown["Sockerless"]["MemoryMB"], 256)
        self.operator.client.remove_container(self.operator.container["Id"])

    def test_on_kill(self):
        """`on_kill` stops the container, which an invocation does not feel."""
        client = Operator([]).client
        self.addCleanup(client.close)
        container = client.create_container(image=IMAGE, command=["true"])["Id"]
        client.start(container)
        client.stop(container)
        # 137: it was stopped before it was invoked.
        self.assertIn(client.wait(container)["StatusCode"], (0, 137))
        client.remove_container(container)


if __name__ == "__main__":
    unittest.main(verbosity=2)

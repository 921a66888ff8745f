// dockerode against the daemon. Run by with-daemon.sh, which sets DOCKER_HOST; NODE_PATH tells where dockerode is.
"use strict";

const assert = require("node:assert/strict");
const { PassThrough } = require("node:stream");
const { buffer, text } = require("node:stream/consumers");
const { afterEach, test } = require("node:test");
const Docker = require("dockerode");

const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace("unix://", ""), timeout: 60_000 });
const shell = (script) => ["sh", "-c", script];

function sink() {
  const stream = new PassThrough();
  stream.whole = text(stream);
  return stream;
}

afterEach(async () => {
  for (const { Id } of await docker.listContainers({ all: true })) {
    await docker.getContainer(Id).remove({ force: true }).catch((error) => assert.equal(error.statusCode, 404));
  }
});

async function refused(status, words, promise) {
  await assert.rejects(promise, (error) => error.statusCode === status && error.message.includes(words));
}

test("run gives the output and the exit code", async () => {
  const [out, err] = [sink(), sink()];
  const [ended, container] = await docker.run("host", shell("echo out; echo err >&2; exit 3"), [out, err], {
    Tty: false,
  });
  assert.equal(ended.StatusCode, 3);
  assert.equal(await out.whole, "out\n");
  assert.equal(await err.whole, "err\n");
  await container.remove();
});

test("run with a terminal and AutoRemove", async () => {
  const out = sink();
  const options = { Tty: true, HostConfig: { AutoRemove: true } };
  const [ended] = await docker.run("host", ["echo", "out"], out, options);
  assert.equal(ended.StatusCode, 0);
  assert.equal(await out.whole, "out\r\n");
});

test("run tells of its steps", async () => {
  const seen = [];
  await new Promise((resolve, reject) => {
    const hub = docker.run("host", ["true"], sink(), {}, (error) => (error ? reject(error) : resolve()));
    for (const step of ["container", "stream", "start", "data"]) {
      hub.on(step, () => seen.push(step));
    }
  });
  assert.deepEqual(seen, ["container", "stream", "start", "data"]);
});

test("create, start, wait, inspect, logs, remove", async () => {
  const container = await docker.createContainer({
    Image: "host",
    name: "job",
    Cmd: shell('echo "$A"; exit 4'),
    Env: ["A=1"],
    Labels: { k: "v" },
    HostConfig: { Memory: 256 * 1024 * 1024 },
  });
  await container.start();
  assert.deepEqual(await container.wait(), { StatusCode: 4 });
  const shown = await container.inspect();
  assert.equal(shown.State.ExitCode, 4);
  assert.equal(shown.Sockerless.MemoryMB, 256);
  assert.equal((await container.logs({ stdout: true, stderr: true })).subarray(8).toString(), "1\n");
  assert.equal(shown.Name, "/job");
  await container.rename({ name: "other" });
  assert.equal((await docker.getContainer("other").inspect()).Id, container.id);
  await container.remove();
  await refused(404, "No such container", container.inspect());
});

test("logs that are followed, taken apart", async () => {
  const container = await docker.createContainer({ Image: "host", Cmd: shell("echo a; sleep 1; echo b >&2") });
  await container.start();
  const stream = await container.logs({ follow: true, stdout: true, stderr: true });
  const [out, err] = [sink(), sink()];
  container.modem.demuxStream(stream, out, err);
  await new Promise((resolve) => stream.on("end", resolve));
  out.end();
  err.end();
  assert.deepEqual([await out.whole, await err.whole], ["a\n", "b\n"]);
});

test("attach, hijacked and not", async () => {
  for (const hijack of [true, false]) {
    const container = await docker.createContainer({ Image: "host", Cmd: ["echo", "out"], Tty: true });
    const stream = await container.attach({ stream: true, stdout: true, stderr: true, hijack });
    await container.start();
    assert.equal((await buffer(stream)).toString(), "out\r\n", `hijack: ${hijack}`);
  }
});

test("lists and filters", async () => {
  const container = await docker.createContainer({ Image: "host", Cmd: ["true"], name: "one", Labels: { a: "b" } });
  const names = async (filters) =>
    (await docker.listContainers({ all: true, filters })).map(({ Names }) => Names[0]);
  assert.deepEqual(await names({ label: ["a=b"], status: ["created"] }), ["/one"]);
  assert.deepEqual(await names({ label: ["a=c"] }), []);
  assert.deepEqual(await docker.listContainers(), []);
  await container.remove();
});

test("events", async () => {
  const events = await docker.getEvents({ filters: { type: ["container"], event: ["die"] } });
  const first = new Promise((resolve) => events.once("data", (line) => resolve(JSON.parse(line))));
  const [ended, container] = await docker.run("host", shell("exit 3"), sink(), {});
  assert.equal(ended.StatusCode, 3);
  const event = await first;
  assert.deepEqual([event.Action, event.id, event.Actor.Attributes.exitCode], ["die", container.id, "3"]);
  events.destroy();
});

test("images", async () => {
  const stream = await docker.pull("host:latest");
  const lines = await new Promise((resolve, reject) =>
    docker.modem.followProgress(stream, (error, lines) => (error ? reject(error) : resolve(lines))),
  );
  assert.match(lines.at(-1).status, /^Status: .*host:latest$/);
  const image = docker.getImage("host");
  assert.deepEqual((await image.inspect()).RepoTags, ["host:latest"]);
  await image.tag({ repo: "copy", tag: "2" });
  assert.equal((await docker.listImages({ filters: { reference: ["copy"] } })).length, 1);
  assert.deepEqual(await docker.getImage("copy:2").remove(), [{ Untagged: "copy:2" }]);
  assert.equal((await image.history()).length, 1);
});

test("the daemon", async () => {
  assert.equal((await docker.ping()).toString(), "OK");
  assert.equal((await docker.version()).ApiVersion, "1.51");
  assert.equal((await docker.info()).OperatingSystem, "AWS Lambda");
  assert.deepEqual((await docker.df()).Volumes, []);
  assert.equal((await docker.pruneContainers()).SpaceReclaimed, 0);
  assert.equal((await docker.listNetworks()).length, 3);
  assert.deepEqual((await docker.listVolumes()).Volumes, []);
});

test("stats", async () => {
  const container = await docker.createContainer({ Image: "host", Cmd: ["true"], HostConfig: { Memory: 2 ** 28 } });
  assert.equal((await container.stats({ stream: false })).memory_stats.limit, 2 ** 28);
});

test("what a function does not have", async () => {
  const container = await docker.createContainer({ Image: "host", Cmd: ["true"] });
  await refused(501, "does not support exec", container.exec({ Cmd: ["true"] }));
  await refused(501, "does not support top", container.top());
  await refused(501, "does not support changes", container.changes());
  await refused(501, "does not support copying", container.getArchive({ path: "/tmp" }));
  await refused(501, "does not support copying", container.putArchive(Buffer.from(""), { path: "/tmp" }));
  await refused(501, "does not support pause", container.pause());
  await refused(501, "does not support update", container.update({ Memory: 2 ** 28 }));
  await refused(501, "does not support commit", container.commit());
  await refused(501, "does not support build", docker.buildImage(new PassThrough().end("x"), { t: "x" }));
  await refused(501, "does not support networks", docker.createNetwork({ Name: "mine" }));
  await refused(501, "does not support volumes", docker.createVolume({ Name: "data" }));
  await refused(503, "not a swarm manager", docker.listServices());
  await refused(404, "No such container: missing", docker.getContainer("missing").start());
  await refused(409, "is already in use", (async () => {
    await docker.createContainer({ Image: "host", name: "job" });
    await docker.createContainer({ Image: "host", name: "job" });
  })());
});

"""What schemathesis must know of the daemon that its OpenAPI document cannot say.

- Requests whose answer has no end of its own get one: a stream that nobody ends would only be timed out. What runs ends
  within the time-out of a request.
- A share of the names is taken from what the run has made, so that not every request ends with 404.
- 5xx: only the refusals (501, and Docker's 503 about swarms), and a /readyz that is not ready. Anything else is a failure,
  although the document names 500 and 503 for a daemon that fails or stops: here it must do neither.
- `lines` answers are checked line by line: OpenAPI 3.1 has no word for them.
"""

import itertools
import json
import os
import random

import jsonschema
import requests
import schemathesis

DAEMON = os.environ["DAEMON"]
CONTAINERS = {"created": ["true"], "ended": ["sh", "-c", "echo out; exit 3"], "running": ["sleep", "15"]}
IMAGES = ["alpine", "busybox", "host"]
EVERY = 200
calls = itertools.count()
# Not the generator that schemathesis plays back.
dice = random.SystemRandom()


def make_containers():
    """What a prune or a removal took away comes back."""
    for name, command in CONTAINERS.items():
        requests.post(f"{DAEMON}/containers/create", params={"name": name}, json={"Image": "host", "Cmd": command})
        if name != "created":
            requests.post(f"{DAEMON}/containers/{name}/start")
    requests.post(f"{DAEMON}/images/create", params={"fromImage": "alpine"})


@schemathesis.hook
def before_call(context, case, kwargs):
    if next(calls) % EVERY == 0:
        make_containers()
    path = case.operation.path
    query = case.query = dict(case.query or {})
    parameters = case.path_parameters = dict(case.path_parameters or {})
    if "id" in parameters and dice.random() < 0.5:
        parameters["id"] = dice.choice(list(CONTAINERS))
    if "name" in parameters and dice.random() < 0.5:
        parameters["name"] = dice.choice(IMAGES)
    if path.endswith("/wait"):
        if query.get("condition") in ("next-exit", "removed"):
            query["condition"] = "not-running"
        if parameters["id"] in CONTAINERS:
            parameters["id"] = "created"
    if path.endswith("/logs"):
        query.pop("follow", None)
    if path.endswith("/events"):
        query["until"] = "1"
    if path.endswith(("/attach", "/stats")):
        query["stream"] = "0"


@schemathesis.check
def only_documented_server_errors(ctx, response, case):
    status = response.status_code
    if status < 500:
        return
    documented = case.operation.definition.raw["responses"]
    refused = "Refused" in case.operation.definition.raw["tags"] and str(status) in documented
    may_refuse = status == 501 and "501" in documented
    not_ready = status == 503 and case.operation.path == "/readyz"
    assert refused or may_refuse or not_ready, f"{status}: {response.text[:300]}"


@schemathesis.check
def every_line_fits(ctx, response, case):
    documented = case.operation.definition.raw["responses"].get(str(response.status_code), {})
    schema = documented.get("content", {}).get("application/json", {}).get("x-line-schema")
    if schema is None:
        return
    schema = dict(schema, components=case.operation.schema.raw_schema["components"])
    for line in response.text.splitlines():
        jsonschema.validate(json.loads(line), schema)

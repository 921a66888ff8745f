"""A client that was generated from the OpenAPI document runs a container, in both spellings. Usage: … URL

The package `generated` is made by openapi-python-client.
"""

import sys

from generated import Client
from generated.api.containers import (
    container_create,
    container_inspect,
    container_start,
    container_wait,
    internal_container_delete,
    internal_container_inspect,
    internal_container_list,
)
from generated.api.system import internal_capabilities, system_info
from generated.models import ContainerCreate, Error

client = Client(base_url=sys.argv[1], timeout=60)
assert system_info.sync(client=client).operating_system == "AWS Lambda"
assert internal_capabilities.sync(client=client).capabilities.logs is True

body = ContainerCreate(image="host", cmd=["sh", "-c", "exit 4"])
created = container_create.sync(client=client, body=body, name="generated")
assert len(created.id) == 64 and created.warnings == [], created
refused = container_create.sync(client=client, body=body, name="generated")
assert isinstance(refused, Error) and "already in use" in refused.message, refused

assert container_start.sync_detailed(created.id, client=client).status_code == 204
assert container_wait.sync(created.id, client=client).status_code == 4
seen = container_inspect.sync("generated", client=client)
assert (seen.state.status.value, seen.state.exit_code, seen.config.cmd) == ("exited", 4, ["sh", "-c", "exit 4"])
assert seen.sockerless.invocation_type.value == "RequestResponse" and seen.sockerless.memory_mb >= 128

assert created.id in [item.id for item in internal_container_list.sync(client=client, all_=True)]
assert internal_container_delete.sync_detailed("generated", client=client).status_code == 204
missing = internal_container_inspect.sync("generated", client=client)
assert isinstance(missing, Error) and missing.message == "No such container: generated", missing
print("a generated client ran a container")

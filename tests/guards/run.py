#!/usr/bin/env python3
"""Takes one guard away after the other, in a copy of the tree, and demands that its test fails.

    tests/guards/run.py [NAME...]      all guards of guards.txt, or these
    tests/guards/run.py --table        the table for docs/reliability.md

A guard whose test passes without it has SURVIVED: it is held by nothing. A mutation that does not compile, a text that is
not found exactly once, or a test that fails with all guards in place is an error of the table. The last line is the verdict.

Building takes minutes and a test milliseconds. So most replacements have the word OFF in them, which stands for "this guard
is switched off": many of them are built together, and a variable of the environment says which one is off. Only what
cannot be switched, such as a derived trait, is built for itself.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests/guards/guards.txt"
SCRATCH = ROOT / "target/guards"
TREE = SCRATCH / "tree"
# The variable that names the guard that is off, and what OFF becomes.
SWITCH = "SOCKERLESS_GUARD_OFF"
OFF = '(std::env::var_os("%s").is_some_and(|name| name == "%s"))'
# A test that a mutation keeps from ending has failed.
TEST_SECONDS = 240
BUILD_SECONDS = 3600


class TableError(Exception):
    """The table is wrong, not the code."""


@dataclass
class Edit:
    """Lines of a file, and what takes their place."""

    file: str
    find: str
    replacement: str


@dataclass
class Guard:
    name: str
    protects: str
    edits: list
    environment: dict
    arguments: list
    test: str

    def files(self):
        return {edit.file for edit in self.edits}

    def can_be_switched(self):
        return all(re.search(r"\bOFF\b", edit.replacement) for edit in self.edits)

    def key(self):
        """The test with all that it is started with."""
        return (tuple(self.arguments), tuple(sorted(self.environment.items())), self.test)


def field(lines, word, name):
    values = [line[len(word) + 2 :] for line in lines if line.startswith(f"{word}: ")]
    if len(values) != 1:
        raise TableError(f"{name}: there must be one line `{word}: ...`")
    return values[0]


def edits(lines, name):
    """Each `file: ...` with the lines that follow it, in front of or behind the other fields."""
    found = []
    for line in lines:
        if line.startswith("file: "):
            found.append(Edit(line.removeprefix("file: "), "", ""))
        elif line.startswith(("-", "+")):
            if not found:
                raise TableError(f"{name}: lines without a file")
            which = "find" if line.startswith("-") else "replacement"
            setattr(found[-1], which, getattr(found[-1], which) + line[1:] + "\n")
    if not found:
        raise TableError(f"{name}: there must be a line `file: ...`")
    return found


def parse(text):
    guards = []
    for block in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        lines = block.splitlines()
        name = lines[0]
        words = field(lines, "held by", name).split()
        settings = [word for word in words if re.match(r"[A-Z_]+=", word)]
        words = words[len(settings) :]
        guards.append(
            Guard(
                name=name,
                protects=field(lines, "protects from", name),
                edits=edits(lines, name),
                environment=dict(setting.split("=", 1) for setting in settings),
                arguments=words[:-1],
                test=words[-1],
            )
        )
    return guards


def chosen(guards, names):
    unknown = set(names) - {guard.name for guard in guards}
    if unknown:
        raise TableError(f"no such guard: {', '.join(sorted(unknown))}")
    return [guard for guard in guards if not names or guard.name in names]


def lock():
    """One of us at a time: two would wait for each other's builds, and change the same copy."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    held = open(SCRATCH / "lock", "w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TableError("another run is under way") from None
    return held


def mirror():
    """Makes the copy equal to the tree. What is equal already keeps its time, so that it is not built again."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    for path in [path for path in TREE.rglob("*") if not path.is_dir()]:
        if str(path.relative_to(TREE)) not in names:
            path.unlink()
    for name in names:
        source, copy = ROOT / name, TREE / name
        content = source.read_bytes()
        if not copy.is_file() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
            copy.chmod(source.stat().st_mode & 0o777)


def cargo(guard, arguments, seconds, off=None):
    """Gives the exit code and what was said; the code is None when it did not end in time."""
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(SCRATCH / "build"),
        "CARGO_INCREMENTAL": "1",
        # Nobody looks at a backtrace, and linking is most of the work.
        "CARGO_PROFILE_DEV_DEBUG": "0",
        **guard.environment,
        **({SWITCH: off} if off else {}),
    }
    process = subprocess.Popen(
        ["cargo", "test", *guard.arguments, *arguments],
        cwd=TREE, env=environment, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        # Nothing is left behind, also when somebody interrupts us.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def build(guard):
    code, said = cargo(guard, ["--no-run"], BUILD_SECONDS)
    if code != 0:
        raise TableError(f"{guard.name}: it does not compile\n{said}")


def passes(guard, off=None):
    """Whether the guard's test passes; an error if it cannot be told."""
    code, said = cargo(guard, ["--", "--exact", guard.test], TEST_SECONDS, off)
    if code is None:
        return False
    if code == 0 and re.search(rf"^test {re.escape(guard.test)} .*\bok$", said, re.MULTILINE):
        return True
    if code != 0 and f"\ntest {guard.test} " in said and f"\n    {guard.test}\n" in said:
        return False
    raise TableError(f"{guard.name}: {guard.test} has neither passed nor failed\n{said}")


def place(name, edit):
    """Where an edit's text is in its file."""
    text = (ROOT / edit.file).read_text()
    if not edit.find or text.count(edit.find) != 1:
        raise TableError(f"{name}: its text occurs {text.count(edit.find)} times in {edit.file}")
    begin = text.index(edit.find)
    return begin, begin + len(edit.find)


def places(guard):
    """Where all of a guard's text is: by file, begin and end."""
    return [(edit.file, *place(guard.name, edit)) for edit in guard.edits]


def overlap(one, other):
    """Whether two guards share lines."""
    return any(
        file == of and begin < to and from_ < end
        for file, begin, end in places(one)
        for of, from_, to in places(other)
    )


def batches(guards):
    """What can be built together: guards that can be switched and do not share lines."""
    together, alone = [], []
    for guard in guards:
        places(guard)
        if not guard.can_be_switched():
            alone.append([guard])
            continue
        for batch in together:
            if not any(overlap(guard, other) for other in batch):
                batch.append(guard)
                break
        else:
            together.append([guard])
    return together + alone


def mutate(batch):
    """Puts the replacements of a batch into the copy."""
    for name in set().union(*(guard.files() for guard in batch)):
        text = (ROOT / name).read_text()
        here = [(place(g.name, edit), g, edit) for g in batch for edit in g.edits if edit.file == name]
        for (begin, end), guard, edit in sorted(here, key=lambda item: item[0], reverse=True):
            replacement = re.sub(r"\bOFF\b", lambda _: OFF % (SWITCH, guard.name), edit.replacement)
            text = text[:begin] + replacement + text[end:]
        (TREE / name).write_text(text)


def restore(batch):
    for name in set().union(*(guard.files() for guard in batch)):
        (TREE / name).write_bytes((ROOT / name).read_bytes())


def demand_sound(guard, sound):
    """With all guards in place the test must pass; each is tried once."""
    if guard.key() not in sound:
        sound[guard.key()] = passes(guard)
    if not sound[guard.key()]:
        raise TableError(f"{guard.name}: {guard.test} fails with all guards in place")


def prepare(batch, sound):
    """Builds all that a batch needs, and tries the tests with all guards in place."""
    if not batch[0].can_be_switched():
        build(batch[0])
        demand_sound(batch[0], sound)
    mutate(batch)
    for guard in {tuple(guard.arguments): guard for guard in batch}.values():
        build(guard)


def try_batch(batch, sound):
    """Gives how many survived, and how many could not be tried."""
    survived = wrong = 0
    try:
        prepare(batch, sound)
        for guard in batch:
            try:
                demand_sound(guard, sound)
                alive = passes(guard, guard.name)
            except TableError as error:
                wrong += 1
                print(f"ERROR {error}", flush=True)
                continue
            survived += alive
            print(f"{guard.name}: {'SURVIVED' if alive else f'killed by {guard.test}'}", flush=True)
    except TableError as error:
        wrong += len(batch)
        print(f"ERROR {error}", flush=True)
    finally:
        restore(batch)
    return survived, wrong


def table(guards):
    print("| guard | protects from | held by |\n|---|---|---|")
    for guard in guards:
        print(f"| `{guard.name}` | {guard.protects} | `{guard.test}` |")


def main(arguments):
    guards = parse(TABLE.read_text())
    if arguments == ["--table"]:
        table(guards)
        return 0
    # Whoever ends us must not leave a test running, nor a guard away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun, survived, wrong, sound = time.monotonic(), 0, 0, {}
    try:
        guards = chosen(guards, arguments)
        _held = lock()
        mirror()
        for batch in batches(guards):
            alive, untried = try_batch(batch, sound)
            survived, wrong = survived + alive, wrong + untried
    except TableError as error:
        wrong += 1
        print(f"ERROR {error}")
    print(f"seconds: {time.monotonic() - begun:.0f}, errors of the table: {wrong}")
    print(f"guards: {len(guards)}, survived: {survived}")
    return 1 if survived or wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

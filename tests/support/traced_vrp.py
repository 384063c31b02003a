"""`vrp`, which also writes down every definition of the package that a stage runs."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import vrp
from vrp.cli import main
from vrp.source.definitions import Definition
from vrp.study import digests

Local = Callable[[FrameType, str, object], Any]
PACKAGE = Path(vrp.__file__).parent
# A stage runs from where the command has read its options and the configuration.
ENTRIES = {"vrp.study.command:run_stage", "vrp.study.command:run_gather"}


def definition_of(code: CodeType) -> Definition | None:
    """The definition whose text holds the code of a function of the package."""
    path = Path(code.co_filename)
    if path.suffix != ".py" or not path.is_relative_to(PACKAGE):
        return None  # templates are compiled, too
    parts = ("vrp", *path.relative_to(PACKAGE).with_suffix("").parts)
    module = digests.sources().module(".".join(part for part in parts if part != "__init__"))
    assert module is not None
    inside = [d for outer in module.definitions.values() for d in (*outer.members.values(), outer)]
    for definition in (*inside, *module.effects):
        for node in definition.nodes:
            lines = [node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))]
            if min(lines) <= code.co_firstlineno <= (node.end_lineno or 0):
                return definition
    return None


class Trace(threading.local):
    """What runs in one thread."""

    def __init__(self) -> None:
        self.in_stage = 0
        self.left_out = 0
        """Frames of module bodies, which importing runs, and of definitions that do not count."""


def install(record: Path) -> None:
    """Write the names of definitions to a file, each as soon as it first runs."""
    trace = Trace()
    known: dict[CodeType, Definition | None] = {}
    done: set[CodeType] = set()
    """Code of which nothing more is to be found out: most calls end at once."""

    def enter(frame: FrameType, event: str, argument: object) -> Local | None:
        code = frame.f_code
        if code in done:
            return None
        if code.co_name == "<module>":
            return leaving(frame, "left_out")
        if code not in known:
            sys.settrace(None)
            known[code] = definition_of(code)
            sys.settrace(enter)
        definition = known[code]
        if definition is None:
            done.add(code)
        elif definition.id in ENTRIES and not code.co_name.startswith("<"):
            return leaving(frame, "in_stage")
        elif not definition.counts:
            return leaving(frame, "left_out")
        elif not trace.left_out and (trace.in_stage or is_aside()):
            done.add(code)
            with record.open("a") as file:
                file.write(f"{definition.id}\n")
        return None

    def leaving(frame: FrameType, counter: str) -> Local:
        """Count a frame until it returns."""
        setattr(trace, counter, getattr(trace, counter) + 1)
        frame.f_trace_lines = False

        def left(frame: FrameType, event: str, argument: object) -> Local:
            if event == "return":
                setattr(trace, counter, getattr(trace, counter) - 1)
            return left

        return left

    threading.settrace(enter)
    sys.settrace(enter)


def is_aside() -> bool:
    """Whether this thread was started by a stage."""
    return threading.current_thread() is not threading.main_thread()


if __name__ == "__main__":
    model = sys.argv[sys.argv.index("--model") + 1] if "--model" in sys.argv else ""
    stage = sys.argv[1].replace("-", "_")
    # Further shards run what the first one runs, and tracing doubles their time.
    if "--shard" not in sys.argv or int(sys.argv[sys.argv.index("--shard") + 1]) == 0:
        install(Path(os.environ["VRP_TRACE"], f"{stage} {model}".strip()))
    main()

"""Commands of the machine and of its scheduler, which may be missing, fail, or never answer."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

SECONDS = 15.0
"""How long a command may take."""


class CommandResult(NamedTuple):
    """What came of a command."""

    found: bool
    """Whether there is such a command."""
    in_time: bool
    """Whether it ended by itself."""
    status: int
    """Its exit status; −1 where it did not end."""
    output: str
    """What it said on stdout."""
    errors: str
    """What it said on stderr."""

    @property
    def ok(self) -> bool:
        """Whether it ran and succeeded."""
        return self.found and self.in_time and self.status == 0

    @property
    def reason(self) -> str:
        """Why it did not, in a few words."""
        if not self.found:
            return "there is no such command"
        if not self.in_time:
            return "it does not answer"
        said = " ".join((self.errors or self.output).split())
        return f"exit status {self.status}" + (f": {said[:200]}" if said else "")


def run_command(*command: str, seconds: float = SECONDS) -> CommandResult:
    """Run a command in bounded time; what it has started ends with it."""
    if shutil.which(command[0]) is None:
        return CommandResult(False, True, -1, "", "")
    return _run(command, seconds)


def _run(command: Sequence[str], seconds: float) -> CommandResult:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # so that its children can be ended with it
        )
    except OSError as error:
        return CommandResult(True, True, 126, "", str(error.strerror))
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return CommandResult(True, False, -1, "", "")
    return CommandResult(True, True, process.returncode, output, errors)

"""Only one run at a time may work on a study's results, whichever folder it was started from.

Snakemake's own lock is known in the folder that it runs in. This one is a file in the results,
and ends with the process that holds it, however that ends.
"""

import fcntl
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

from snakemake.logging import logger

_NAME = ".lock"
_TRIES, _PAUSE = 5, 0.1  # a run that is being planned holds the lock for a moment
# Open for as long as the process lives: closing a file would release its lock.
_LOCK_FILES: list[IO[str]] = []


def results_are_locked(results: Path) -> bool:
    """Whether a run works on a study's results at this moment."""
    try:
        with (results / _NAME).open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False  # no run has been here
    except OSError:
        # No such locks on this file system: Snakemake's own, in this folder, must do.
        from vrp.study.status import is_locked

        return is_locked(Path(), results)
    return False


def acquire_results_lock(results: Path) -> None:
    """Lock a study's results until this process ends.

    On a file system without such locks, a warning says so.

    Raises:
        SystemExit: another run holds the lock.
    """
    path = results / _NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
        _lock(file)
    except BlockingIOError:
        file.seek(0)
        sys.exit(
            f"Error: {results}: another run works here ({file.read().strip()}); wait for it to "
            "finish, or stop it. Nothing was changed."
        )
    except OSError as error:
        # No such locks on this file system, or a folder that cannot be written: writing the
        # snapshot reports that.
        logger.warning(
            f"{path}: cannot be locked ({error.strerror}); nothing keeps a run that is started in "
            "another folder away from these results"
        )
        return
    file.truncate(0)
    print(f"process {os.getpid()} on {socket.gethostname()}", file=file, flush=True)
    _LOCK_FILES.append(file)


def _lock(file: IO[str]) -> None:
    """Lock a file for this process alone."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
        time.sleep(_PAUSE)

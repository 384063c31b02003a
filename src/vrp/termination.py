"""How a stage ends on SIGTERM: quickly, non-zero, nothing half-written.

SIGTERM becomes an exception, so that temporary files are removed on its way up; then the process
ends at once, since taking down an interpreter that holds torch can take seconds. An exception waits
for a long call into a library to return; a thread does not, and ends the process after a while.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

logger = logging.getLogger(__name__)

RUN_BY = "VRP_RUN_BY"
"""Environment variable: process id of the workflow that started a stage on this machine."""

_WATCH_INTERVAL = 1.0  # seconds
_CLEANUP_SECONDS = 3.0
"""How long the exception may take on its way up; a temporary file left behind is removed later."""


class Terminated(SystemExit):
    """SIGTERM arrived; the code is 143."""


def install_sigterm_handler() -> None:
    """Raise Terminated in the main thread on SIGTERM.

    A stage whose workflow was killed ends in the same way: with nobody to take its result, it
    would only get in the way of the one that a new run starts.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # signals belong to the main thread
    signal.signal(signal.SIGTERM, _exit)
    _start_deadline()
    workflow = os.environ.get(RUN_BY, "")
    if workflow.isdigit():
        threading.Thread(target=_watch_workflow, args=(int(workflow),), daemon=True).start()


def _exit(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def _start_deadline() -> None:
    """Have a thread woken by signals as they arrive, not when the main thread comes to Python."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    # A forked process would wake this one's thread by its own signals.
    os.register_at_fork(after_in_child=_reset_wakeup)
    threading.Thread(target=_exit_after_deadline, args=(reads,), daemon=True).start()


def _reset_wakeup() -> None:
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)


def _exit_after_deadline(reads: int) -> None:
    while signal.SIGTERM not in os.read(reads, 1):
        pass
    time.sleep(_CLEANUP_SECONDS)
    os._exit(128 + signal.SIGTERM)


def exit_at_once(terminated: Terminated) -> NoReturn:
    """End the process without taking the interpreter down."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(int(str(terminated.code)))


def _watch_workflow(workflow: int) -> None:
    while is_alive(workflow):
        time.sleep(_WATCH_INTERVAL)
    logger.warning("the workflow that started this stage has ended: this stage ends as well")
    os.kill(os.getpid(), signal.SIGTERM)


def is_alive(process: int) -> bool:
    """Whether a process exists and is not merely waiting to be reaped."""
    import psutil

    try:
        return psutil.Process(process).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False

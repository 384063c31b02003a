"""Files that appear whole or not at all."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vrp.errors import InputError

# A temporary file's name tells whose it is: `.<file>.<process>@<machine>.<random>.part`.
_PART = re.compile(r"\.*(?P<file>.+)\.(?P<process>\d+)@(?P<machine>\w+)\.\w+\.part")
_ABANDONED_SECONDS = 6 * 3600.0


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well.

    Args:
        path: the file.
        durable: have the content on the disk before the file has its name, so that a machine that
            loses its power keeps all of it or nothing.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_parts(path.parent, of=path.name)
        owner = f".{path.name}.{os.getpid()}@{_machine()}."
        handle, name = tempfile.mkstemp(prefix=owner, suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from None
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)  # mkstemp's 0600 would hide results from a shared group
        if durable:
            _write_through(part)
        part.replace(path)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (part, path):
            raise
        raise _cannot_write(path, error) from None
    finally:
        part.unlink(missing_ok=True)


def _write_through(path: Path) -> None:
    with path.open("rb") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            # Some file systems know no such thing; a full disk that shows here is an error.
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
                raise


def remove_abandoned_parts(folder: Path, *, of: str | None = None) -> None:
    """Remove temporary files of `atomic_write` whose writer was killed before it could.

    Those of a process of this machine that is gone, and, since of other machines' processes
    nothing is known here, those that nobody has written to for six hours.

    Args:
        folder: where to look; not below it.
        of: name of the file that they were to become; None: any.
    """
    with os.scandir(folder) as entries:
        parts = [entry for entry in entries if entry.name.endswith(".part")]
    for entry in parts:
        found = _PART.fullmatch(entry.name)
        # Where a part is itself written whole, its own name stands within.
        if found and of in (None, found["file"], _innermost(found["file"])):
            with contextlib.suppress(OSError):  # another process was quicker
                if _is_abandoned(found, entry):
                    Path(entry.path).unlink()


def _innermost(name: str) -> str:
    found = _PART.fullmatch(name)
    return _innermost(found["file"]) if found else name


@functools.cache
def _machine() -> str:
    """What process numbers belong to: a machine since it started, or a container on it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not everywhere
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _is_abandoned(name: re.Match[str], entry: os.DirEntry[str]) -> bool:
    if name["machine"] == _machine():
        try:
            os.kill(int(name["process"]), 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # it runs, under another user
    return time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS


def require_writable(*paths: Path) -> None:
    """Find out before a long computation whether its results can be written.

    Raises:
        InputError: a folder cannot be made or written.
    """
    for folder in {path.parent for path in paths}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise _cannot_write(folder, error) from None


def write_text(path: Path, content: str) -> None:
    """Write a text file whole (UTF-8)."""
    with atomic_write(path) as part:
        part.write_text(content, encoding="utf-8")


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}); "
        "check the folder's permissions and the disk's free space"
    )

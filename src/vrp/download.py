"""Download one file over HTTP: resumed after a cut, and checked before it gets its name."""

import hashlib
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import requests

from vrp.errors import InputError
from vrp.progress import progress

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""Failures in a row, without a byte more, after which a download is given up."""
_TIMEOUT = 60  # seconds without a byte
_BLOCK = 1 << 16
_NO_BAR_BELOW = 1 << 20
_MAX_UNANNOUNCED = 1 << 35  # bytes, five times the largest published archive
# What a server says when the same request may succeed later.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class Checksum(NamedTuple):
    """What a whole file must digest to."""

    algorithm: str
    """`sha256`, or `git`: the SHA-1 under which git, and so a hub, knows a small file."""
    value: str
    """In hexadecimal digits."""

    def fits(self, path: Path) -> bool:
        """Whether the file has this checksum."""
        return file_checksum(path, self.algorithm).value == self.value


class _CutError(Exception):
    """The connection ended before the file did."""


def file_checksum(path: Path, algorithm: str) -> Checksum:
    """Digest a file's bytes by `sha256` or `git`."""
    hasher = hashlib.sha256()
    if algorithm == "git":
        hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return Checksum(algorithm, hasher.hexdigest())


def download(
    url: str,
    path: Path,
    *,
    name: str | None = None,
    headers: Mapping[str, str] | None = None,
    size: int | None = None,
    checksum: Checksum | None = None,
    advice: str = "",
    pause: float = 1.0,
) -> None:
    """Download a file whole; what an earlier, cut download left is continued.

    The bytes go to `<path>.part` beside the file, which is kept when a download is given up, and
    gets its name only once size and checksum are right. A file that arrives damaged is thrown away
    and downloaded once more from its start.

    Args:
        url: where it is.
        path: where it goes; nothing happens where it exists.
        name: what messages and the progress bar call it; None: the address, the file's name.
        headers: of the request, such as an authorisation.
        size: bytes that the whole file has, where that is known.
        checksum: what it must digest to, where that is known.
        advice: what else the user could do, for the message.
        pause: seconds before the second attempt, doubled for each further one.

    Raises:
        InputError: the server refuses, cannot be reached, or sends something else.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    # A compressed transfer has no meaningful ranges and another length.
    sent = {**(headers or {}), "Accept-Encoding": "identity"}
    transfer = _Transfer(url, part, name or url, sent, size, f", or {advice}" if advice else "")
    for last_chance in (False, True):
        if size is None or _size(part) != size:
            transfer.run(pause)
        if checksum is None or checksum.fits(part):
            break
        found = file_checksum(part, checksum.algorithm).value
        part.unlink()
        if last_chance:
            raise InputError(
                f"{transfer.name}: arrived damaged twice ({checksum.algorithm} {found[:12]}…, "
                f"announced as {checksum.value[:12]}…) and was not kept; try again later, or ask "
                "whoever publishes it"
            )
        logger.warning(f"{transfer.name}: arrived damaged; downloading it again")
    part.replace(path)


@dataclass(frozen=True)
class _Transfer:
    """The attempts to get the bytes of one file."""

    url: str
    part: Path
    name: str
    headers: dict[str, str]
    size: int | None
    advice: str

    def run(self, pause: float) -> None:
        """Attempt until the file is whole; raise InputError where that is without hope."""
        failures = 0
        while True:
            before = _size(self.part)
            try:
                return self._attempt(before)
            except (requests.RequestException, _CutError) as error:
                reason, reply = _reason(error), getattr(error, "response", None)
            if reply is not None and reply.status_code not in _TRANSIENT:
                raise InputError(
                    f"{self.name}: the server refuses it ({reason}); check the address and your "
                    f"access{self.advice}"
                )
            failures = 0 if _size(self.part) > before else failures + 1
            if failures == ATTEMPTS:
                raise InputError(
                    f"{self.name}: download stopped ({reason}); run it again to go on where it "
                    f"stopped{self.advice}"
                )
            logger.warning(f"{self.name}: cut ({reason}); resuming at byte {_size(self.part)}")
            time.sleep(pause * 2 ** max(failures - 1, 0))

    def _attempt(self, have: int) -> None:
        headers = self.headers | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(self.url, headers=headers, stream=True, timeout=_TIMEOUT) as reply:
            if reply.status_code == requests.codes.requested_range_not_satisfiable:
                self.part.unlink()
                raise _CutError("what was there does not fit")
            reply.raise_for_status()
            if reply.status_code != requests.codes.partial_content:
                have = 0
            elif _range_start(reply) != have:
                self.part.unlink()
                raise _CutError("the server sent another range than it was asked for")
            self._receive(reply, have)

    def _receive(self, reply: requests.Response, have: int) -> None:
        length = reply.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        if self.size is not None and total is not None and total != self.size:
            raise InputError(f"{self.name}: has {total} bytes, announced were {self.size}")
        expected = self.size or total
        room = (expected or _MAX_UNANNOUNCED) - have
        label = self.name.rsplit("/", 1)[-1]
        small = total is not None and total < _NO_BAR_BELOW
        shown = progress(total, label, unit="B", unit_scale=True, initial=have, disable=small)
        with self.part.open("ab" if have else "wb") as file, shown as bar:
            for block in reply.iter_content(_BLOCK):
                room -= len(block)
                if room < 0:
                    break
                file.write(block)
                bar.update(len(block))
        if room < 0:
            self.part.unlink()
            announced = f"the {expected} bytes announced" if expected else "32 GiB, unannounced,"
            raise InputError(
                f"{self.name}: the server sends more than {announced} and was cut off; nothing was "
                f"kept; check the address and any proxy on the way{self.advice}"
            )
        if expected is not None and _size(self.part) != expected:
            raise _CutError(f"{_size(self.part)} of {expected} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _range_start(reply: requests.Response) -> int | None:
    """The first byte that a partial reply holds; None where it does not say."""
    found = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _reason(error: BaseException) -> str:
    """The innermost error's own words: the libraries wrap it several times."""
    while isinstance(inner := _inner(error), BaseException):
        error = inner
    words = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(words.split())[:200] or type(error).__name__


def _inner(error: BaseException) -> object:
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, BaseException) else next(iter(error.args), None)

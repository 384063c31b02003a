"""Repositories on the hub: what a revision holds, and its files brought into the hub's own cache.

Files go where huggingface_hub keeps them, so that every library that reads its cache finds them,
offline too. The transfer is this project's: the hub's library throws a cut file away when the
process ends, and does not digest what arrives.
"""

import contextlib
import glob
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vrp.download import Checksum, download
from vrp.errors import InputError
from vrp.hub_errors import Repository, remedy

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RemoteFile(NamedTuple):
    """A file of a revision."""

    path: str
    """Inside the repository, with forward slashes."""
    size: int
    """Bytes."""
    checksum: Checksum
    """SHA-256 of a large file, git's digest of a small one."""


class Listing(NamedTuple):
    """What a revision holds."""

    commit: str
    """The commit that the revision stands for."""
    files: dict[str, RemoteFile]
    """By path."""


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit's full name, which can never mean anything else later."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def short_revision(commit: str | None) -> str:
    """A revision as messages show it."""
    return commit[:7] if commit is not None and is_commit(commit) else str(commit)


def list_files(repository: Repository) -> Listing:
    """Ask the hub what a revision holds.

    Raises:
        HubUnreachableError: the hub cannot be asked.
        InputError: there is no such repository or revision, or it is not for everyone.
    """
    from huggingface_hub import HfApi, RepoFile, constants

    kind, name, revision = repository
    api = HfApi(endpoint=constants.ENDPOINT)
    with translated_errors(repository):
        # Asked for a commit, too: without a network this fails at once, the listing after minutes.
        revision = api.repo_info(name, repo_type=kind, revision=revision).sha
        entries = api.list_repo_tree(name, repo_type=kind, revision=revision, recursive=True)
        files = [_remote_file(entry) for entry in entries if isinstance(entry, RepoFile)]
    return Listing(str(revision), {file.path: file for file in files})


def _remote_file(entry: Any) -> RemoteFile:
    if entry.lfs is None:
        return RemoteFile(entry.path, entry.size, Checksum("git", entry.blob_id))
    return RemoteFile(entry.path, entry.lfs.size, Checksum("sha256", entry.lfs.sha256))


def require_access(repository: Repository, listing: Listing) -> None:
    """Find out whether the files may be had: a gated repository lists them to everyone.

    Raises:
        HubUnreachableError: the hub cannot be asked.
        InputError: the licence is not accepted.
    """
    if listing.files:
        # Of the largest file: what introduces a repository may be open where its content is not.
        largest = max(listing.files.values(), key=lambda file: (file.size, file.path))
        with translated_errors(repository):
            _metadata(repository, listing.commit, largest.path)


def download_file(repository: Repository, listing: Listing, path: str, target: Path) -> None:
    """Bring one file of a revision to a place on disk, resumed and checked.

    Raises:
        HubUnreachableError: the hub cannot be asked.
        InputError: the file cannot be had, is not for everyone, or arrives damaged twice.
    """
    _transfer(repository, listing, path, lambda checksum: target)


def cache_file(repository: Repository, listing: Listing, path: str) -> None:
    """Bring one file of a revision into the hub's cache, where it is not there yet.

    It is stored under its checksum until `link_snapshot` gives it its name.

    Raises:
        HubUnreachableError: the hub cannot be asked.
        InputError: the file cannot be had, is not for everyone, or arrives damaged twice.
    """
    blobs = _storage(repository) / "blobs"
    _transfer(repository, listing, path, lambda checksum: blobs / checksum)


def _transfer(
    repository: Repository, listing: Listing, path: str, target_of: Callable[[str], Path]
) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    file = listing.files[path]
    with translated_errors(repository):
        url, metadata = _metadata(repository, listing.commit, path)
    etag = metadata.etag or file.checksum.value
    target = target_of(etag)
    # As the hub's library does: two models of a study may be one checkpoint.
    lock = Path(constants.HF_HUB_CACHE, ".locks", _storage(repository).name, f"{etag}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        download(
            url,
            target,
            name=f"{repository.name}/{path}",
            headers=build_hf_headers(),
            size=file.size,
            checksum=file.checksum,
        )


def _metadata(repository: Repository, commit: str, path: str) -> tuple[str, Any]:
    """The address of a file, and what the hub says of it."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(
        repository.name,
        path,
        repo_type=repository.kind,
        revision=commit,
        endpoint=constants.ENDPOINT,
    )
    return url, get_hf_file_metadata(url)


def link_snapshot(repository: Repository, paths: Collection[str], commit: str) -> Path:
    """Give files that lie in the cache their names; return the folder of the revision.

    Raises:
        HubUnreachableError: a file is not in the cache after all, and the hub cannot be asked.
        InputError: likewise, and the hub refuses it.
    """
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(path) for path in paths]
    with translated_errors(repository):
        # A branch or tag is asked for by its name, too: offline it is then known by it.
        names = [] if is_commit(repository.revision) else [repository.revision or "main"]
        for revision in (commit, *names):
            snapshot_download(
                repository.name,
                repo_type=repository.kind,
                revision=revision,
                allow_patterns=patterns,
                max_workers=1,
                tqdm_class=_no_bar(),
            )
    return snapshot_folder(repository, commit)


def cached_snapshot(repository: Repository, patterns: Collection[str]) -> Path | None:
    """The folder of a revision in the cache, without asking the hub; None where it is not whole.

    Args:
        repository: what is looked for.
        patterns: names of the files that have to be there, where the hub's listing is known.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repository.name,
            repo_type=repository.kind,
            revision=repository.revision,
            allow_patterns=list(patterns),
            ignore_patterns=["*/*"],
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(folder)


def snapshot_folder(repository: Repository, commit: str) -> Path:
    """Where the hub's cache keeps the files of a commit."""
    return _storage(repository) / "snapshots" / commit


def cached_checksum(path: Path) -> Checksum | None:
    """What a file of the hub's cache must digest to: it is stored there under its checksum.

    None where the cache holds plain copies, as it does on file systems without links.
    """
    name = path.resolve().name
    if _SHA256.fullmatch(name):
        return Checksum("sha256", name)
    return Checksum("git", name) if _COMMIT.fullmatch(name) else None


def remove_cached(path: Path) -> None:
    """Take a damaged file out of the cache, its name and its content."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    content.unlink(missing_ok=True)


def _storage(repository: Repository) -> Path:
    """The folder of a repository in the hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=repository.name, repo_type=repository.kind)
    return Path(constants.HF_HUB_CACHE, folder)


def _no_bar() -> Any:
    """A progress bar that is never shown: the files are there, only their names are missing."""
    from tqdm import tqdm

    class NoBar(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": True})

    return NoBar


@contextlib.contextmanager
def translated_errors(repository: Repository) -> Iterator[None]:
    """Turn the hub's errors into one line that says what to do.

    Raises:
        HubUnreachableError: the hub cannot be asked.
        InputError: it refuses.
    """
    try:
        yield
    except Exception as error:
        advice = remedy(error, repository)
        if advice is None:
            raise
        raise InputError(f"{repository}: {advice}") from None

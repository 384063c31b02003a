"""A monitor's folder on the hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vrp.errors import InputError
from vrp.hub import cache_file, cached_snapshot, link_snapshot, list_files, translated_errors
from vrp.hub_errors import HubUnreachableError, Repository
from vrp.monitor.card import CARD, README, TENSORS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from vrp.monitor.monitor import ReliabilityMonitor

_FILES = (CARD, TENSORS, README)
_UNREACHABLE = "the hub cannot be reached; check the network, and that HF_HUB_OFFLINE is not set"


def fetch_folder(name: str, revision: str | None) -> Path:
    """Return the folder of the hub's cache with a monitor's files, downloaded where they are not.

    Raises:
        InputError: there is no such repository or revision, it is not for everyone, it holds no
            monitor, or the hub cannot be reached and the cache does not hold it.
    """
    repository = Repository("model", name, revision)
    try:
        listing = list_files(repository)
        if missing := [file for file in _FILES if file not in listing.files]:
            raise InputError(f"{name}: holds no {missing[0]}, and so no monitor")
        for file in _FILES:
            cache_file(repository, listing, file)
        return link_snapshot(repository, _FILES, listing.commit)
    except HubUnreachableError:
        found = cached_snapshot(repository, _FILES)
        if found is None:
            raise InputError(f"{name}: {_UNREACHABLE}") from None
        return found


def push_folder(monitor: "ReliabilityMonitor", name: str, *, private: bool) -> str:
    """Upload a monitor's folder; return the URL of the commit.

    Raises:
        InputError: the hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT)
    try:
        with TemporaryDirectory() as folder, translated_errors(Repository("model", name, None)):
            monitor.save(folder)
            _create(api, name, private=private)
            made = api.upload_folder(
                repo_id=name, folder_path=folder, allow_patterns=list(_FILES),
                commit_message="Reliability monitor",
            )  # fmt: skip
    except HubUnreachableError:
        raise InputError(f"{name}: {_UNREACHABLE}") from None
    return str(made.commit_url)


def _create(api: "HfApi", name: str, *, private: bool) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(name, private=private, exist_ok=True)
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise InputError(
            f"{name}: you may not write there; run `hf auth login` with a token that may"
        ) from None

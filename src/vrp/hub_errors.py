"""What the hub's library raises, in one line that says what to do."""

from typing import Literal, NamedTuple


class Repository(NamedTuple):
    """A repository at a revision, as the config names it."""

    kind: Literal["model", "dataset"]
    """Which of the hub's name spaces."""
    name: str
    """Owner and name, such as `llava-hf/llava-1.5-7b-hf`."""
    revision: str | None
    """Commit, tag or branch; None: the default branch."""

    def __str__(self) -> str:
        return f"{'checkpoint' if self.kind == 'model' else 'data set'} {self.name}"


class HubUnreachableError(Exception):
    """There is no network, the hub does not answer, or going online is switched off."""


def remedy(error: BaseException, repository: Repository) -> str | None:
    """Return what to do about an error of the hub's library; None where it is none of them.

    Raises:
        HubUnreachableError: the error says that the hub cannot be asked.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # From the special to the general: most of them are also the ones further down.
    match error:
        case LocalEntryNotFoundError() | OfflineModeIsEnabled():
            raise HubUnreachableError(_one_line(error)) from error
        case GatedRepoError():
            return (
                f"its licence is not accepted; accept it at {_page(repository)} with your "
                "account, then run `hf auth login` here (or set HF_TOKEN)"
            )
        case RevisionNotFoundError():
            return (
                f"revision {repository.revision!r} does not exist; take a commit from "
                f"{_page(repository)}/commits/main"
            )
        case RepositoryNotFoundError() | HFValidationError():
            model = repository.kind == "model"
            what = "neither a folder here nor a model" if model else "no data set"
            return (
                f"it is {what} on the hub; check its name, or run `hf auth login` if it is private"
            )
        case EntryNotFoundError():
            return f"a file is missing ({_one_line(error)}); choose another revision"
        case HfHubHTTPError() if error.response.status_code < 500:
            return f"the hub refuses it ({_one_line(error)}); check your access and try again"
        case HTTPError():  # the hub's own trouble, or no answer at all
            raise HubUnreachableError(_one_line(error)) from error
        case _:
            return None


def _page(repository: Repository) -> str:
    """The repository's page."""
    from huggingface_hub import constants

    place = "datasets/" if repository.kind == "dataset" else ""
    return f"{constants.ENDPOINT}/{place}{repository.name}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

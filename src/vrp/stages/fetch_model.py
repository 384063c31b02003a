"""Fetch a checkpoint and record exactly what it is."""

from pathlib import Path

from vrp.config.models import ModelConfig
from vrp.errors import InputError
from vrp.stages.checkpoints import PATTERNS, describe_folder, local_folder, write_manifest


def run(*, model: ModelConfig, output: Path) -> None:
    """Bring a hub checkpoint into the hub's cache, or check a folder; write the manifest last.

    Args:
        model: the model's section of the config.
        output: the manifest: family, checkpoint, revision, every file's SHA-256 and a digest
            over them.

    Raises:
        InputError: unknown family, a checkpoint that cannot be had, or a folder that holds none.
    """
    from vrp.vlm.families import get_family

    get_family(model.family)
    folder = local_folder(model.checkpoint)
    if folder is None:
        folder = _download(model.checkpoint, model.revision)
        # In the hub's cache the folder of a snapshot is named after its commit.
        manifest = describe_folder(model, folder, revision=folder.name)
    elif model.revision is not None:
        raise InputError(
            f"checkpoint {model.checkpoint}: only hub checkpoints have a revision; remove it"
        )
    else:
        manifest = describe_folder(model, folder, revision=None)
    write_manifest(output, manifest)


def _download(checkpoint: str, revision: str | None) -> Path:
    """Download what is missing of a hub checkpoint; return its snapshot's folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=list(PATTERNS)))
    except GatedRepoError:
        remedy = "its licence is not accepted; accept it on the hub, then `hf auth login`"
    except RevisionNotFoundError:
        remedy = f"revision {revision!r} does not exist; check the model's `revision`"
    except (RepositoryNotFoundError, HFValidationError):
        remedy = "it is neither a folder here nor a model on the hub; check its name"
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        remedy = f"it is not in the cache and the hub cannot be reached ({reason}); try again"
    raise InputError(f"checkpoint {checkpoint}: {remedy}")

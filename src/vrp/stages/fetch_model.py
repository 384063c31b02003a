"""Fetch a checkpoint and record exactly what it is."""

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

from vrp.config.models import ModelConfig
from vrp.errors import InputError
from vrp.hub import (
    Listing,
    cache_file,
    cached_checksum,
    cached_snapshot,
    link_snapshot,
    list_files,
    remove_cached,
    short_revision,
    snapshot_folder,
)
from vrp.hub_errors import HubUnreachableError, Repository
from vrp.running.model_manifest import (
    Manifest,
    check_weights,
    describe_folder,
    local_folder,
    write_manifest,
)
from vrp.study.context import StageContext
from vrp.study.provenance import stated
from vrp.vlm.checkpoint_files import INDEX, PATTERNS, WEIGHTS, loaded_files, read_index
from vrp.vlm.family_names import check_family
from vrp.zoo import ZOO_PREFIX

logger = logging.getLogger(__name__)


def run(context: StageContext) -> None:
    """Bring a hub checkpoint into the hub's cache, or check a folder; write the manifest last.

    Raises:
        InputError: unknown family, a checkpoint that cannot be had, a folder that holds none, or
            weights that are cut short.
    """
    model, output = context.model_config, context.output_path("manifest")
    manifest = fetch(model)
    folder = _folder(model, manifest)
    unread = [] if model.checkpoint.startswith(ZOO_PREFIX) else _unread_weights(model, folder)
    dimensions = _dimensions(model, folder)
    made_by = stated(context.provenance)
    write_manifest(output, manifest._replace(dimensions=dimensions, unread=unread, made_by=made_by))


def fetch(model: ModelConfig) -> Manifest:
    """Do what `run` does, but for writing the manifest.

    Of a hub checkpoint only the files that are loaded are fetched. A file that was cut goes on
    where it stopped, in this run and in the next; one that arrives with another checksum than the
    hub's is not kept; one that has been damaged since is fetched again. Without a network, what
    is in the cache is checked the same way.

    Raises:
        InputError: as `run`.
    """
    check_family(model.family)
    folder = local_folder(model.checkpoint)
    if folder is None:
        return _from_hub(model, Repository("model", model.checkpoint, model.revision))
    if model.revision is not None:
        raise InputError(
            f"checkpoint {model.checkpoint}: only hub checkpoints have a revision; remove it"
        )
    manifest = describe_folder(model, folder, revision=None)
    check_weights(folder, manifest.files, where=f"checkpoint {model.checkpoint}")
    return manifest


def _folder(model: ModelConfig, manifest: Manifest) -> Path:
    """Return the folder that the checkpoint is in."""
    return local_folder(model.checkpoint) or snapshot_folder(
        Repository("model", model.checkpoint, model.revision), str(manifest.revision)
    )


def _unread_weights(model: ModelConfig, folder: Path) -> list[str]:
    """Refuse files that do not hold the model's weights; name buffers that are not read."""
    from vrp.vlm.loading import check_checkpoint

    unread = list(check_checkpoint(folder, family=model.family))
    if unread:
        logger.warning(f"checkpoint {folder}: {', '.join(unread)}: computed, not read from there")
    return unread


def _dimensions(model: ModelConfig, folder: Path) -> dict[str, Any] | None:
    """Return what planning needs to know of the model; None where it cannot be measured."""
    # Imported by name, since it changes no result: another way to measure makes nothing anew.
    sources = import_module("vrp.planning.dimension_sources")
    try:
        return sources.measured(model, folder).as_json()
    except InputError as error:
        logger.warning("%s; its jobs request the resources of a large model", error)
        return None


def _from_hub(model: ModelConfig, repository: Repository) -> Manifest:
    try:
        listing = list_files(repository)
        manifest = _online(model, repository, listing)
    except HubUnreachableError as error:
        manifest = _offline(model, repository, str(error))
    folder = snapshot_folder(repository, str(manifest.revision))
    check_weights(folder, manifest.files, where=str(repository))
    n_bytes = sum((folder / name).stat().st_size for name in manifest.files)
    commit = short_revision(manifest.revision)
    logger.info(
        f"{repository.name}@{commit}: {len(manifest.files)} files, {n_bytes / 1e9:.2f} GB, whole"
    )
    if repository.revision is None:
        logger.warning(
            f"{repository.name}: no revision is given; write `revision: {manifest.revision}` into "
            "the config, so that the study stays the same when the repository changes"
        )
    return manifest


def _online(model: ModelConfig, repository: Repository, listing: Listing) -> Manifest:
    folder = _fill_cache(repository, listing)
    manifest = describe_folder(model, folder, revision=listing.commit)
    damaged = _damaged(folder, manifest, listing)
    if not damaged:
        return manifest
    for name in damaged:
        _throw_away(repository, folder / name)
    folder = _fill_cache(repository, listing)
    return describe_folder(model, folder, revision=listing.commit)


def _fill_cache(repository: Repository, listing: Listing) -> Path:
    """Bring what is missing of the files that are loaded; return the folder they are in."""
    folder = snapshot_folder(repository, listing.commit)
    names, index = list(listing.files), None
    if INDEX in names and WEIGHTS not in names:
        if (folder / INDEX).exists() and not listing.files[INDEX].checksum.fits(folder / INDEX):
            _throw_away(repository, folder / INDEX)
        _bring(repository, listing, [INDEX])
        index = read_index(folder, where=str(repository))
    _bring(repository, listing, loaded_files(names, index, where=str(repository)))
    return folder


def _bring(repository: Repository, listing: Listing, names: list[str]) -> None:
    folder = snapshot_folder(repository, listing.commit)
    # Small files first: a gate, or a checkpoint of another kind, then shows before the weights.
    for name in sorted(names, key=lambda name: listing.files[name].size):
        if not (folder / name).exists():
            cache_file(repository, listing, name)
    link_snapshot(repository, names, listing.commit)


def _offline(model: ModelConfig, repository: Repository, reason: str) -> Manifest:
    folder = cached_snapshot(repository, PATTERNS)
    if folder is None or not ((folder / WEIGHTS).exists() or (folder / INDEX).exists()):
        raise InputError(
            f"{repository}: it is not in the cache and the hub cannot be reached ({reason}); run "
            "`vrp fetch` where there is a network"
        )
    # In the hub's cache the folder of a snapshot is named after its commit.
    manifest = describe_folder(model, folder, revision=folder.name)
    if damaged := _damaged(folder, manifest):
        raise InputError(
            f"{repository}: {damaged[0]} is damaged in the cache, and the hub cannot be reached; "
            "run `vrp fetch` on a machine with a network"
        )
    logger.warning(f"{repository.name}: the hub cannot be reached; the cache is complete")
    return manifest


def _damaged(folder: Path, manifest: Manifest, listing: Listing | None = None) -> list[str]:
    """Files that digest to something else than the hub says, or than the cache keeps them under."""
    found = []
    for name, sha256 in manifest.files.items():
        known = listing.files[name].checksum if listing else cached_checksum(folder / name)
        if known is None:
            continue
        # The large ones have been digested for the manifest already.
        whole = known.value == sha256 if known.algorithm == "sha256" else known.fits(folder / name)
        if not whole:
            found.append(name)
    return found


def _throw_away(repository: Repository, path: Path) -> None:
    logger.warning(f"{repository.name}/{path.name}: is damaged in the cache; fetching it again")
    remove_cached(path)

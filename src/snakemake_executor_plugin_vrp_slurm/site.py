"""What differs from cluster to cluster: one small file that belongs to the user."""

import dataclasses
from pathlib import Path

import yaml
from snakemake_interface_common.exceptions import WorkflowError


@dataclasses.dataclass(frozen=True)
class Site:
    """Where the jobs of this user go on this cluster; None: the cluster's own default."""

    account: str | None = None
    """Who pays: `sbatch --account`."""
    cpu_partition: str | None = None
    """Partition of the jobs that hold no GPU."""
    gpu_partition: str | None = None
    """Partition of the jobs that hold one."""
    gpu_type: str | None = None
    """Type of the GPUs as SLURM names it: `sbatch --gpus=<type>:1`."""
    qos: str | None = None
    """Quality of service: `sbatch --qos`."""


def read_site(path: Path | None) -> Site:
    """Read the file; without one, the cluster's defaults hold.

    Raises:
        WorkflowError: it is not YAML, has an unknown key, or a value is no text.
    """
    if path is None or not path.is_file():
        return Site()
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorkflowError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    known = [field.name for field in dataclasses.fields(Site)]
    if not isinstance(found, dict) or set(found) - set(known):
        strange = ", ".join(map(repr, set(found) - set(known))) if isinstance(found, dict) else ""
        raise WorkflowError(
            f"{path}: {f'unknown key {strange}' if strange else 'not a mapping'}; "
            f"keys are {', '.join(known)}"
        )
    for key, value in found.items():
        if value is not None and not isinstance(value, str | int):
            raise WorkflowError(f"{path}: {key}: one name is wanted, not {value!r}")
    return Site(**{key: str(value) for key, value in found.items() if value not in (None, "")})


def faults(site: Site, partitions: dict[str, set[str]], *, where: str) -> list[str]:
    """Return what the file asks for and the cluster does not have, one line each.

    Args:
        site: the file's content.
        partitions: generic resources of each partition, such as `gpu:a100:4`.
        where: the file, for messages.
    """
    found = []
    for key in ("cpu_partition", "gpu_partition"):
        name = getattr(site, key)
        if name is not None and name not in partitions:
            found.append(
                f"{where}: {key}: the cluster has no partition {name!r}; "
                f"it has {', '.join(sorted(partitions))}"
            )
    offered = (
        partitions.get(site.gpu_partition, set())
        if site.gpu_partition
        else set().union(*partitions.values())
    )
    types = {parts[1] for entry in offered if len(parts := entry.split("(")[0].split(":")) > 2}
    if site.gpu_type is not None and not found and site.gpu_type not in types:
        place, there = site.gpu_partition or "any partition", ", ".join(sorted(types)) or "none"
        found.append(
            f"{where}: gpu_type: no GPU of type {site.gpu_type!r} in {place}; there is {there}"
        )
    return found

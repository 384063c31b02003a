"""What differs from cluster to cluster: one small file that belongs to the user."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import yaml
from snakemake_interface_common.exceptions import WorkflowError


@dataclasses.dataclass(frozen=True)
class Site:
    """Where the jobs of this user go on this cluster; None: the cluster's own default."""

    account: str | None = None
    """Who pays: `sbatch --account`."""
    cpu_account: str | None = None
    """Who pays for the jobs that hold no GPU, where that is somebody else."""
    gpu_account: str | None = None
    """Who pays for the jobs that hold one."""
    cpu_partition: str | None = None
    """Partition of the jobs that hold no GPU."""
    gpu_partition: str | None = None
    """Partition of the jobs that hold one."""
    gpu_type: str | None = None
    """Type of the GPUs as SLURM names it: `sbatch --gpus=<type>:1`."""
    qos: str | None = None
    """Quality of service: `sbatch --qos`."""
    cpu_qos: str | None = None
    """That of the jobs that hold no GPU, where it is another."""
    gpu_qos: str | None = None
    """That of the jobs that hold one."""

    def for_job(self, *, gpu: bool) -> "Place":
        """Where a job goes that holds a GPU, or that holds none."""
        if gpu:
            account, qos, partition = self.gpu_account, self.gpu_qos, self.gpu_partition
        else:
            account, qos, partition = self.cpu_account, self.cpu_qos, self.cpu_partition
        return Place(account or self.account, qos or self.qos, partition)

    def describe(self) -> str:
        """What the file sets, in words."""
        found = {key: value for key, value in dataclasses.asdict(self).items() if value}
        return (
            ", ".join(f"{key} {value}" for key, value in found.items())
            or "nothing is set, the cluster's defaults hold"
        )


class Place(NamedTuple):
    """Where a job goes; None: the cluster's default."""

    account: str | None
    qos: str | None
    partition: str | None
    """One, or several with commas between them: the one that can start it first."""


def read_site(path: Path | None) -> Site:
    """Read the file; without one, the cluster's defaults hold.

    Raises:
        WorkflowError: it is not YAML, has an unknown or repeated key, or a value that is no text.
    """
    if path is None or not path.is_file():
        return Site()
    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.safe_load(text) or {}
        _refuse_repeated_keys(path, yaml.compose(text, yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:
        raise WorkflowError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    known = [field.name for field in dataclasses.fields(Site)]
    if not isinstance(found, dict) or set(found) - set(known):
        unknown = ", ".join(map(repr, set(found) - set(known))) if isinstance(found, dict) else ""
        raise WorkflowError(
            f"{path}: {f'unknown key {unknown}' if unknown else 'not a mapping'}; "
            f"keys are {', '.join(known)}"
        )
    for key, value in found.items():
        if value is not None and not isinstance(value, str | int):
            raise WorkflowError(f"{path}: {key}: expected one name, not {value!r}")
    return Site(**{key: str(value) for key, value in found.items() if value not in (None, "")})


def _refuse_repeated_keys(path: Path, node: yaml.Node | None) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            where = f"lines {lines[name]} and {line}"
            raise WorkflowError(f"{path}: key {name!r} is given twice ({where}); remove one")
        lines[name] = line


def site_errors(site: Site, partitions: dict[str, set[str]], *, where: str) -> list[str]:
    """Return what the file asks for and the cluster does not have, one line each.

    Args:
        site: the file's content.
        partitions: generic resources of each partition, such as `gpu:a100:4`.
        where: the file, for messages.
    """
    errors = []
    for key in ("cpu_partition", "gpu_partition"):
        for name in _names(getattr(site, key)):
            if name not in partitions:
                errors.append(
                    f"{where}: {key}: the cluster has no partition {name!r}; "
                    f"it has {', '.join(sorted(partitions))}"
                )
    names = _names(site.gpu_partition) or list(partitions)
    resources = set().union(*(partitions.get(name, set()) for name in names))
    types = {parts[1] for entry in resources if len(parts := entry.split("(")[0].split(":")) > 2}
    if site.gpu_type is not None and not errors and site.gpu_type not in types:
        searched, known = site.gpu_partition or "any partition", ", ".join(sorted(types)) or "none"
        errors.append(
            f"{where}: gpu_type: no GPU of type {site.gpu_type!r} in {searched}; there is {known}"
        )
    return errors


def _names(partitions: str | None) -> list[str]:
    """Partitions of a key: sbatch takes several with commas between them."""
    return [name.strip() for name in partitions.split(",")] if partitions else []

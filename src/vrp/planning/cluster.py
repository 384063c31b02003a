"""Whether a SLURM cluster answers, and with which command the state of jobs can be asked for."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from vrp.config.yaml_file import read_yaml
from vrp.errors import InputError
from vrp.planning.check_result import Check
from vrp.planning.external_commands import run_command

_USE_SQUEUE = "write `slurm-status-command: squeue` into the profile"


class SlurmSettings(NamedTuple):
    """What a profile says of SLURM."""

    status_command: str
    """sacct, squeue, or auto: the plugin takes sacct wherever there is such a command. `either`:
    squeue is asked, and sacct where it works."""
    site: Path | None = None
    """File of account, partitions and GPU type, where there is one."""


def runs_on_slurm(profile: str) -> SlurmSettings | None:
    """Read a profile as Snakemake would; None where it runs on something else.

    Raises:
        InputError: there is no such profile, or it cannot be read.
    """
    path = _profile_file(profile)
    keys: Any = read_yaml(path)
    keys = keys if isinstance(keys, dict) else {}
    if keys.get("executor") == "vrp-slurm":
        site = keys.get("vrp-slurm-site")
        return SlurmSettings("either", _in_profile(str(site), path.parent) if site else None)
    if keys.get("executor") != "slurm":
        return None
    return SlurmSettings(str(keys.get("slurm-status-command", "auto")))


def _in_profile(text: str, folder: Path) -> Path:
    """A path of a profile, as Snakemake reads it: beside the profile, where there is one."""
    place = Path(os.path.expandvars(text)).expanduser()
    return folder / place if (folder / place).exists() else place


def _profile_file(profile: str) -> Path:
    places = [
        Path(profile),
        Path("~/.config/snakemake", profile),
        Path("/etc/xdg/snakemake", profile),
    ]
    for place in places:
        for pattern in ("profile.yaml", "profile.v9+.yaml", "config.yaml", "config.v8+.yaml"):
            path = place.expanduser() / pattern
            if path.is_file():
                return path
    raise InputError(f"profile {profile!r} is neither here nor in ~/.config/snakemake")


def check_scheduler(settings: SlurmSettings, *, needs_gpu: bool) -> list[Check]:
    """Ask the cluster for its partitions, for a GPU among them, and for the state of jobs."""
    sinfo = run_command("sinfo", "--noheader", "--format=%P|%a|%G")
    if not sinfo.ok:
        remedy = "run it on the login node; if it is one, ask your site: slurmctld does not answer"
        if not sinfo.found:
            remedy = "run it on a node where SLURM is installed"
        return [Check("scheduler", "failed", f"sinfo: {sinfo.reason}", remedy)]
    lines = [line.split("|") for line in sinfo.output.splitlines() if line.count("|") == 2]
    up = [(name.rstrip("*"), gres) for name, state, gres in lines if state == "up"]
    if not up:
        return [Check("scheduler", "failed", "no partition is up", "ask your site")]
    names = ", ".join(dict.fromkeys(name for name, _ in up))
    found = [Check("scheduler", "ok", f"partitions that are up: {names}")]
    if missing := [c for c in ("sbatch", "scancel") if not run_command(c, "--version").ok]:
        what = f"{missing[0]} does not work here"
        found.append(Check("submission", "failed", what, "run it on a node that may submit jobs"))
    if needs_gpu:
        if with_gpu := dict.fromkeys(name for name, gres in up if "gpu" in gres):
            found.append(Check("GPU partition", "ok", ", ".join(with_gpu)))
        else:
            what = "no partition that is up has a GPU"
            remedy = "set `device: cpu`, or run on a cluster that has one"
            found.append(Check("GPU partition", "failed", what, remedy))
    if settings.site is not None:
        found.append(_site(settings.site, [(name.rstrip("*"), gres) for name, _, gres in lines]))
    found.append(_status_command(settings))
    return found


def _site(path: Path, partitions: list[tuple[str, str]]) -> Check:
    """Whether the cluster has what the user's file asks for."""
    if not path.is_file():
        return Check("site", "skipped", f"there is no {path}: the cluster's defaults hold")
    offered: dict[str, set[str]] = {}
    for name, gres in partitions:
        offered.setdefault(name, set()).update(gres.split(","))
    reader = _site_reader()
    if reader is None:
        return Check("site", "skipped", "Snakemake's executor vrp-slurm is not installed here")
    try:
        problems = reader.site_errors(reader.read_site(path), offered, where=str(path))
    except reader.WorkflowError as error:
        problems = [str(error)]
    if problems:
        return Check("site", "failed", "; ".join(problems), f"fix {path}")
    return Check("site", "ok", f"{path}: the cluster has what it asks for")


def _site_reader() -> Any:
    """The executor's own module for the site's file, by itself: the executor asks SLURM on import,
    which may never answer. None where it is not installed.
    """
    package = importlib.util.find_spec("snakemake_executor_plugin_vrp_slurm")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).with_name("site.py")
    spec = importlib.util.spec_from_file_location("vrp_slurm_site", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    try:
        spec.loader.exec_module(module)
    except ImportError:
        return None
    return module


def _status_command(settings: SlurmSettings) -> Check:
    """The plugin waits without end for a sacct that has no accounting behind it."""
    command = settings.status_command
    name = "status command"
    sacct = run_command(
        "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State"
    )
    if command == "auto":
        command = "sacct" if sacct.found else "squeue"
    if command == "sacct":
        if sacct.ok:
            return Check(name, "ok", "sacct answers")
        return Check(name, "failed", f"sacct: {sacct.reason}", _USE_SQUEUE)
    squeue = run_command("squeue", "--noheader", "--me", "--format=%i|%T")
    if squeue.ok and command == "either":
        beside = "and so does sacct" if sacct.ok else f"which is enough (sacct: {sacct.reason})"
        return Check(name, "ok", f"squeue answers, {beside}")
    if squeue.ok:
        return Check(name, "ok", "squeue answers")
    remedy = "ask your site: slurmctld does not answer"
    return Check(name, "failed", f"squeue: {squeue.reason}", remedy)

"""Check before the first job that a study has everything it needs; one line per check."""

import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing import TimeoutError
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig, load_study
from vrp.data.images import IMAGE_SUFFIXES
from vrp.data.item_sampling import first_few
from vrp.errors import InputError
from vrp.planning.check_result import Check
from vrp.planning.cluster import check_scheduler, runs_on_slurm
from vrp.planning.devices import DEFAULT_GPU, GIB, MEMORY_MARGIN
from vrp.planning.dimension_sources import cached_folder, hub_cache, is_embedded, wants_gpu
from vrp.planning.disk import checkpoint_bytes, data_bytes
from vrp.planning.external_commands import run_command
from vrp.planning.installed_versions import check_versions
from vrp.planning.plan import make_plan
from vrp.planning.question_checks import check_questions, unfetched
from vrp.planning.study_checks import check_counts, check_names, require_images
from vrp.planning.workload import device_memory, model_stages, n_items, weight_bytes

_NETWORK_SECONDS = 20.0
# Room to leave beside what is planned: logs, side files of a shard, the estimate's own error.
_DISK_MARGIN = 1.2
_KIB = 1024


def preflight(config: Path, *, profile: str | None = None) -> list[Check]:
    """Check all that a study needs on this machine; nothing is downloaded and nothing is run.

    Args:
        config: the study's YAML file.
        profile: Snakemake's profile that the study is to run with.
    """
    try:
        study = load_study(config)
        check_names(study)
        check_counts(study)
    except InputError as error:
        remedy = "fix the file; config/README.md lists every key"
        return [Check("config", "failed", str(error), remedy)]
    counts = f"{n_items(study):,} items, {len(study.models)} models"
    checks = [Check("config", "ok", f"{config}: study {study.study}, {counts}")]
    fetch = f"run `vrp fetch --config {config}` where there is a network"
    checks.append(_versions())
    checks.append(_writable(study))
    for name, model in study.models.items():
        checks.append(_cache(name, model, fetch))
        checks.append(_licence(name, model))
    data, n_images = _data(study, fetch)
    checks += [data, _folds(study, n_images)]
    checks += _disk(study, data)
    checks += _scheduler(profile, needs_gpu=any(map(wants_gpu, study.models.values())))
    checks.append(_gpu(study, profile))
    return checks


def _versions() -> Check:
    found = check_versions(Path("requirements.lock"))
    if found.n_pinned == 0:
        detail = (
            "installed versions were not compared: there is no requirements.lock in "
            f"{Path.cwd()}; run it in the project's folder"
        )
        return Check("environment", "skipped", detail)
    if found.problems:
        shown = ", ".join(found.problems[:5]) + (", …" if len(found.problems) > 5 else "")
        remedy = "pip install --requirement requirements.lock, or `make venv`"
        return Check("environment", "failed", shown, remedy)
    return Check("environment", "ok", f"{found.n_pinned} versions as in requirements.lock")


def _writable(study: StudyConfig) -> Check:
    folder = Path(study.results, study.study)
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        detail = f"{folder} cannot be written ({error.strerror})"
        remedy = "set `results` in the config to a writable folder, or change its permissions"
        return Check("results", "failed", detail, remedy)
    return Check("results", "ok", f"{folder} can be written")


# Models


def _cache(name: str, model: ModelConfig, fetch: str) -> Check:
    from vrp.running.model_manifest import check_weights, local_folder
    from vrp.vlm.checkpoint_files import files_of

    what, remedy = f"model {name}", fetch
    try:
        given = local_folder(model.checkpoint)
    except InputError as error:
        return Check(what, "failed", str(error), f"fix models.{name}.checkpoint in the config")
    if given is not None:
        remedy = "copy the whole checkpoint there again, or name another one in the config"
    try:
        folder = given or cached_folder(model)
        if folder is None:
            revision = f" at revision {model.revision}" if model.revision else ""
            detail = f"{model.checkpoint}{revision} is not in {hub_cache()}"
            return Check(what, "failed", detail, remedy)
        files = files_of(folder, where=model.checkpoint)
        check_weights(folder, files, where=model.checkpoint)
        if not is_embedded(model):
            from vrp.vlm.loading import check_checkpoint

            remedy = ""  # another copy would be refused as well: the message says what to do
            check_checkpoint(folder, family=model.family)
    except InputError as error:
        return Check(what, "failed", str(error), remedy)
    n_bytes = sum((folder / file).stat().st_size for file in files)
    return Check(what, "ok", f"{model.checkpoint}: {len(files)} files, {_gb(n_bytes)}, whole")


def _licence(name: str, model: ModelConfig) -> Check:
    from vrp.hub import translated_errors
    from vrp.hub_errors import HubUnreachableError, Repository

    what = f"licence of {name}"
    if is_embedded(model) or Path(model.checkpoint).is_dir():
        return Check(what, "skipped", "the checkpoint is on this machine's disk")

    def may_read() -> None:
        from huggingface_hub import HfApi, constants

        if constants.HF_HUB_OFFLINE:
            raise HubUnreachableError("offline mode is set")
        with translated_errors(Repository("model", model.checkpoint, model.revision)):
            HfApi(endpoint=constants.ENDPOINT).auth_check(model.checkpoint)

    try:
        # Its thread is a daemon: nobody waits for an answer that never comes.
        with ThreadPool(1) as pool:
            pool.apply_async(may_read).get(_NETWORK_SECONDS)
    except TimeoutError:
        return Check(what, "skipped", "the hub does not answer")
    except HubUnreachableError as error:
        return Check(what, "skipped", f"the hub cannot be reached from here ({error})")
    except InputError as error:
        remedy = "accept it on the model's page, then log in with `hf auth login`"
        return Check(what, "failed", str(error), remedy)
    return Check(what, "ok", f"{model.checkpoint} may be read")


# Data and disk


def _data(study: StudyConfig, fetch: str) -> tuple[Check, int | None]:
    """Return what is there of the data, and the most images whose answers can be judged."""
    what = f"scenes are drawn into {study.data.folder}"
    if study.data.origin != "scenes":
        found = _files_there(study, fetch)
        if isinstance(found, Check):
            return found, None
        what = found
    try:
        questions = check_questions(study)
    except InputError as error:
        return Check("data", "failed", str(error)), None
    return Check("data", "ok", "; ".join([what, *questions.notes])), questions.n_images


def _folds(study: StudyConfig, n_images: int | None) -> Check:
    if n_images is None:
        return Check("folds", "skipped", "how many images the study has is not known yet")
    try:
        require_images(study, n_images)
    except InputError as error:
        return Check("folds", "failed", str(error))
    if not n_images:
        return Check("folds", "skipped", "no answer can be judged, so that no probe is fitted")
    return Check("folds", "ok", f"{study.probes.folds} folds of up to {n_images:,} images")


def _files_there(study: StudyConfig, fetch: str) -> Check | str:
    """Return what is there, in words, or the check that failed since something is not."""
    data = study.data
    folder = Path(data.folder)
    wanted = data.question_files((split.dataset, split.split) for split in study.sample.splits)
    remedy = (
        f"put it there, or set data.folder and the names under `data` ({data.origin})"
        if data.origin == "local"
        else f"{fetch}, or set data.origin: local if the files were put there by hand"
    )
    if lacking := unfetched(data):
        detail = f"{lacking[0]} was not fetched into {folder}, or not whole{_more(lacking)}"
        return Check("data", "failed", detail, remedy)
    if missing := [name for name in wanted if not (folder / name).is_file()]:
        detail = f"{folder / missing[0]} is not there{_more(missing)}{_beside(folder / missing[0])}"
        return Check("data", "failed", detail, remedy)
    n_images = 0
    for place in data.image_folders(split.dataset for split in study.sample.splits):
        found = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in (folder / place).rglob("*"))
        if not found:
            return Check("data", "failed", f"{folder / place} holds no image", remedy)
        n_images += found
    return f"{len(wanted)} question files and {n_images:,} images in {folder}"


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _beside(path: Path) -> str:
    """Which files of its kind are in a missing file's folder."""
    there = sorted(found.name for found in path.parent.glob(f"*{path.suffix}"))
    return f" (its folder has {first_few(there)})" if there else ""


class _Need(NamedTuple):
    """What is going to be written somewhere."""

    what: str
    place: Path
    n_bytes: int


def _disk(study: StudyConfig, data: Check) -> list[Check]:
    """Free space, and quota, of every file system that something will be written to."""
    by_system: dict[int, list[_Need]] = {}
    for need in _needs(study, data):
        by_system.setdefault(_existing(need.place).stat().st_dev, []).append(need)
    checks = []
    for needs in by_system.values():
        place = _existing(needs[0].place)
        wanted = round(_DISK_MARGIN * sum(need.n_bytes for need in needs))
        what = ", ".join(f"{need.what} {_gb(need.n_bytes)}" for need in needs)
        free = shutil.disk_usage(place).free
        detail = f"{_gb(free)} free at {place}, {_gb(wanted)} needed with a margin ({what})"
        remedy = (
            "free some space, or set `results`, `data.folder` or HF_HOME to a larger file system"
        )
        checks.append(Check("disk", "failed" if free < wanted else "ok", detail, remedy))
        checks.append(_quota(place, wanted))
    return checks


def _needs(study: StudyConfig, data: Check) -> Iterator[_Need]:
    plan = make_plan(study, device=DEFAULT_GPU)
    yield _Need("results", Path(study.results), plan.most_bytes)
    if data.failed or study.data.origin == "scenes":
        yield _Need("data", Path(study.data.folder), data_bytes(study))
    missing = 0
    for model in study.models.values():
        if not is_embedded(model) and cached_folder(model) is None:
            try:
                missing += checkpoint_bytes(model)
            except InputError:  # its dimensions are not known: said where the cache is checked
                continue
    if missing:
        yield _Need("checkpoints", hub_cache(), missing)


def _quota(place: Path, wanted: int) -> Check:
    answer = run_command("quota", "-w", "-p")
    if not answer.found:
        return Check("quota", "skipped", "there is no `quota` command here; use that of your site")
    # Its exit status says only whether a limit is exceeded.
    if not answer.in_time:
        return Check("quota", "skipped", "`quota` does not answer")
    left = quota_left(answer.output, _device_of(place))
    if left is None:
        return Check("quota", "ok", f"no limit on the file system of {place}")
    detail = f"{_gb(left)} left at {place}, {_gb(wanted)} needed with a margin"
    remedy = "free some space, or ask for more; a scratch file system often has more"
    return Check("quota", "failed" if left < wanted else "ok", detail, remedy)


def quota_left(output: str, device: str) -> int | None:
    """Return the bytes that `quota -w` leaves on a device; None where it sets no limit.

    A line is: file system, blocks of 1 KiB used (with * where over the limit), soft limit, hard
    limit, …
    """
    for line in output.splitlines():
        cells = line.split()
        if len(cells) < 4 or cells[0] != device:
            continue
        used, soft, hard = (cell.rstrip("*") for cell in cells[1:4])
        if not (used.isdigit() and soft.isdigit() and hard.isdigit()):
            continue
        limits = [int(limit) for limit in (soft, hard) if int(limit)]
        return _KIB * max(0, min(limits) - int(used)) if limits else None
    return None


def _device_of(place: Path) -> str:
    """The device that a folder is mounted from, as the kernel names it."""
    import psutil

    mounts = {disk.mountpoint: disk.device for disk in psutil.disk_partitions(all=True)}
    around = (str(folder) for folder in (place.resolve(), *place.resolve().parents))
    return next((mounts[folder] for folder in around if folder in mounts), "")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


# GPU and scheduler


def _scheduler(profile: str | None, *, needs_gpu: bool) -> list[Check]:
    if profile is None:
        return [Check("scheduler", "skipped", "no --profile was given")]
    try:
        settings = runs_on_slurm(profile)
    except InputError as error:
        return [Check("scheduler", "failed", str(error), "name an existing profile")]
    if settings is None:
        return [Check("scheduler", "skipped", f"profile {profile} does not use SLURM")]
    return check_scheduler(settings, needs_gpu=needs_gpu)


def _gpu(study: StudyConfig, profile: str | None) -> Check:
    wanted = [name for name, model in study.models.items() if wants_gpu(model)]
    if not wanted:
        return Check("GPU", "skipped", "no model of this study needs one")
    answer = run_command(
        "nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"
    )
    gpus = gpu_memories(answer.output) if answer.ok else []
    if not gpus and profile is not None:
        detail = "none on this machine; jobs request theirs from the scheduler"
        return Check("GPU", "skipped", detail)
    if not gpus:
        why = answer.reason if not answer.ok else "it lists none"
        remedy = "run on a machine with a GPU, use --profile slurm, or set `device: cpu`"
        return Check("GPU", "failed", f"nvidia-smi: {why}", remedy)
    return _large_enough(study, wanted, gpus)


def _large_enough(study: StudyConfig, wanted: list[str], gpus: list[tuple[str, int]]) -> Check:
    """Whether weights and one item fit: larger batches are split where they do not."""
    largest = max(memory for _, memory in gpus)
    described = f"{len(gpus)} × {gpus[0][0]} with {_gb(largest)}"
    for name in wanted:
        model = study.models[name]
        try:
            needs = {
                stage.name: device_memory(study, name, stage.name, batch_size=1)
                for stage in model_stages(study)
            }
        except InputError:
            continue
        stage, need = max(needs.items(), key=lambda found: found[1], default=("", 0))
        have = sum(memory for _, memory in gpus) if model.device_map else largest
        if need > have:
            weights = round(MEMORY_MARGIN * weight_bytes(model))
            detail = (
                f"{described}; {name} needs {_gb(need)} for one item of its {stage} stage "
                f"({_gb(weights)} of weights)"
            )
            remedy = "set `device_map: auto` and use more GPUs, a larger GPU, or bfloat16"
            return Check("GPU", "failed", detail, remedy)
    return Check("GPU", "ok", described)


def gpu_memories(output: str) -> list[tuple[str, int]]:
    """Return name and bytes of each GPU in nvidia-smi's lines of `name, MiB`."""
    found = []
    for line in output.splitlines():
        name, _, memory = line.rpartition(",")
        if name and memory.strip().isdigit():
            found.append((name.strip(), int(memory) * GIB // 1024))
    return found


def _gb(n_bytes: float) -> str:
    if n_bytes >= 1e8:
        return f"{n_bytes / 1e9:.1f} GB"
    return f"{n_bytes / 1e6:.1f} MB"

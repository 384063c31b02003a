"""One page for each stage: how to run it by hand, its files, its keys, and what it costs."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from md_text import anchor, sentence, table

from vrp.config.reference import Key, all_keys
from vrp.config.study import load_study
from vrp.planning.devices import DEVICES
from vrp.planning.plan import Plan, make_plan
from vrp.planning.plan_text import duration
from vrp.study.command import path_options
from vrp.study.declarations import ANALYSIS_KEYS, EXECUTION_KEYS, Artifact, Stage
from vrp.study.graph import LIST_OF, MADE_BY, STAGES

_CONFIG = Path(__file__).parents[2] / "config"
_STUDIES = {
    "default, `config/demo.yaml`": ("demo.yaml", "a100-40"),
    "the papers', `config/paper.yaml`": ("paper.yaml", "a100-80"),
}
_PER = {
    "study": "One job.",
    "model": "One job per model.",
    "shard": "One job per model and shard.",
    "list": "One job for each model and each stage that works in shards.",
}


def stage_pages() -> dict[str, str]:
    """Return address → page, in the order in which stages run."""
    return {f"stages/{stage.name}.md": _page(stage) for stage in STAGES}


def _page(stage: Stage) -> str:
    parts = (
        f"# {stage.command}\n",
        f"{sentence(stage.help)} {stage.details}\n",
        f"{_PER[stage.per]} {_where(stage)}\n",
        _commands(stage),
        _files(stage),
        _keys(stage),
        _cost(stage),
    )
    return "\n".join(part for part in parts if part)


def _where(stage: Stage) -> str:
    if stage.runs_model:
        return "It runs the model, on a GPU if there is one."
    return "On a cluster it runs on the login node." if stage.local else ""


def _commands(stage: Stage) -> str:
    """One job of the default study by hand, and the workflow up to it."""
    options = ["--config config/demo.yaml"]
    if stage.per != "study":
        options.append("--model llava")
    if stage.per == "shard":
        options.append("--shard 0")
    if stage.per == "list":
        options += [
            "--stage extract --folder results/demo",
            "--list results/demo/llava/extract.json",
        ]
    lines = [f"$ vrp {stage.command} {' '.join(options)}"]
    if stage.per != "list":
        lines.append(
            f"$ snakemake --cores 2 --until {stage.name}   # with everything that it needs"
        )
    return "\n".join(["```console", *lines, "```", ""])


def _files(stage: Stage) -> str:
    rows = [_file_row(option.artifact, option.writes) for option in path_options(stage)]
    if not rows:
        return ""
    head = table(["", "file", "content", "made by"], rows)
    return f"## Files\n\nPaths are relative to `results/<study>`.\n\n{head}"


def _file_row(artifact: Artifact, writes: bool) -> tuple[str, str, str, str]:
    maker = MADE_BY.get(artifact) or LIST_OF[artifact]
    holds = artifact.help
    if artifact.schema:
        holds = f"[{holds}](../tables.md#{anchor(artifact.name)})"
    made = "" if writes else f"[{maker.command}]({maker.name}.md)"
    made += ", if the study runs it" * (maker.optional and not writes)
    return "writes" if writes else "reads", f"`{artifact.path.replace('{file}', '*')}`", holds, made


def _keys(stage: Stage) -> str:
    rows = [(f"`{key.path}`", f"`{key.default}`", key.meaning) for key in _keys_of(stage)]
    if not rows:
        return ""
    text = table(["key", "default", "meaning"], rows)
    if stage.batch_key:
        text += f"\n`{stage.batch_key}` and `models.*.batch_size` change only speed and memory.\n"
    return f"## Keys\n\nThe stage is rerun when one of these changes.\n\n{text}"


def _keys_of(stage: Stage) -> Iterator[Key]:
    left_out = {*EXECUTION_KEYS, *ANALYSIS_KEYS} - set(stage.keys)
    for key in all_keys():
        path = key.path.replace("[]", "")
        if path not in left_out and any(
            path == name or path.startswith(f"{name}.") for name in stage.keys
        ):
            yield key


def _cost(stage: Stage) -> str:
    """The planned cost of the stage in the studies that ship with the project."""
    rows = []
    for words, (config, gpu) in _STUDIES.items():
        planned = [one for one in _plan(config, gpu).stages if one.stage == stage.name]
        if planned:
            memory = max(one.memory for one in planned)
            n_answers = sum(one.n_answers for one in planned) or ""
            seconds = sum(one.seconds for one in planned)
            rows.append(
                (words, sum(one.n_jobs for one in planned), n_answers, duration(seconds),
                 f"{memory / 1e9:.1f} GB" if stage.runs_model else "")
            )  # fmt: skip
    if not rows:
        return ""
    return (
        "## Cost\n\nPlanned cost of all models, with one job after the other: the default study on "
        "one processor core, the papers' study on one A100 with 80 GB. `vrp plan` plans your own "
        "study.\n\n" + table(["study", "jobs", "answers", "time", "device memory"], rows)
    )


@cache
def _plan(config: str, gpu: str) -> Plan:
    return make_plan(load_study(_CONFIG / config), device=DEVICES[gpu])

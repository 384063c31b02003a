"""docs/stages.md: the table of stages, written from the graph.

python -m vrp.study.reference docs            write it
python -m vrp.study.reference docs --check    exit 1 if it is out of date
"""

import argparse
import sys
from pathlib import Path

from vrp.study.command import path_options
from vrp.study.declarations import Artifact, Stage
from vrp.study.graph import LIST_OF, MADE_BY, STAGES

_FILE = "stages.md"
_HEAD = """# Stages

Written by `python -m vrp.study.reference docs` from `src/vrp/study/graph.py`; do not edit.

Each stage is a rule in `workflow/rules`, a command `vrp <stage>` and a module in
`src/vrp/stages`. Paths are under `results/<study>`. A stage is rerun when its inputs, one of its
keys, or code that its result depends on has changed.
"""


def stages_page() -> str:
    """Return the page as Markdown."""
    return "\n".join([_HEAD, *(_section(stage) for stage in STAGES)])


def _section(stage: Stage) -> str:
    summary = f"{stage.help[0].upper()}{stage.help[1:]}."
    lines = [f"## {stage.command}", "", f"{summary} {stage.details}".strip(), ""]
    if stage.per == "list":
        sharded = ", ".join(f"`{listed.command}`" for listed in LIST_OF.values())
        lines.append(f"- one job for each model and stage in shards: {sharded}")
        return "\n".join([*lines, ""])
    per = {"study": "one job", "model": "one job per model", "shard": "one job per model and shard"}
    lines.append(f"- {per[stage.per]}{', on a GPU if there is one' * stage.runs_model}")
    for option in path_options(stage):
        sometimes = ", if a condition needs it" * (option.artifact.name in stage.reads_if)
        verb = "writes" if option.writes else "reads"
        lines.append(f"- {verb} {_file(option.artifact)}{sometimes}")
    lines.append(f"- keys: {', '.join(f'`{key}`' for key in stage.keys)}")
    if stage.batch_key:
        lines.append(f"- not rerun after a change of `{stage.batch_key}` or `models.*.batch_size`")
    return "\n".join([*lines, ""])


def _file(artifact: Artifact) -> str:
    place = artifact.path.replace("{file}", "*")
    maker = MADE_BY.get(artifact) or LIST_OF[artifact]
    where = f" (if the study runs `{maker.command}`)" if maker.optional else ""
    return f"`{place}`: {artifact.help}{where}"


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    path, text = options.folder / _FILE, stages_page()
    if not options.check:
        path.write_text(text, encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        sys.exit(f"{path} is out of date: run `make reference`")


if __name__ == "__main__":
    main()

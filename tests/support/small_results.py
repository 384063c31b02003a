"""A study of one embedded model, run in this process: its stages but for figures and report."""

import os
from contextlib import chdir
from pathlib import Path
from typing import Any

import yaml

from vrp.config.study import load_study
from vrp.study.command import run_gather, run_stage
from vrp.study.graph import LISTS, STAGE, STAGES
from vrp.study.layout import StudyLayout

SPLITS = (("pope", "adversarial", "existence", 72), ("vqa", "counting", "counting", 80),
          ("vqa", "spatial", "spatial", 80), ("vqa", "open", "open", 8))  # fmt: skip


def run_small_study(folder: Path, **sections: Any) -> Path:
    """Run it; return its results folder.

    Args:
        folder: where it runs.
        sections: sections of the configuration that differ.
    """
    splits = [dict(zip(("dataset", "split", "task", "count"), s, strict=True)) for s in SPLITS]
    config = {
        "study": "small",
        "data": {
            "folder": "data/small",
            "scenes": {"namespace": "small", "n_pope_images": 24, "n_vqa_images": 80},
        },
        "sample": {"splits": splits},
        "models": {"llava": {"family": "llava", "checkpoint": "zoo:llava", "device": "cpu"}},
        "consistency": {"k": 4},
        "p_true": {"enabled": True},
        "metrics": {"bootstrap": 100},
        "probes": {"folds": 3, "inner_folds": 2, "penalties": [0.01, 0.1], "mlp": False,
                   "bootstrap": 100, "permutations": 2},
        "mask": {"items": 20}, "ablate": {"enabled": False}, "trace": {"enabled": False},
        **sections,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder):
        Path("small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        study = load_study("small.yaml")
        layout = StudyLayout(study)
        for stage in STAGES:
            if stage.per == "list" or stage.name in ("figures", "report"):
                continue
            if not layout.runs(stage):
                continue
            for model in [""] if stage.per == "study" else study.models:
                run_stage(stage, study, model=model)
                if stage.name in LISTS:
                    _gather(study, layout, stage.name, model)
        Path(layout.results, "config.yaml").write_text(
            yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
        )
    return folder / layout.results


def _gather(study: Any, layout: StudyLayout, stage: str, model: str) -> None:
    (listed,) = layout.paths(LISTS[stage], model=model)
    run_gather(study, STAGE[stage], model=model, folder=layout.results, items=[], output=listed)


if __name__ == "__main__":
    import sys

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(run_small_study(Path(sys.argv[1])))

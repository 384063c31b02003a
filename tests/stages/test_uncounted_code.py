"""Tables stay equal to the bit when what is declared not to change a number does something else."""

import contextlib
import sys

import polars as pl
import pytest

from vrp.study import digests


class Bar:
    """A progress bar that shows nothing."""

    def update(self, n=1):
        assert n >= 0


@contextlib.contextmanager
def no_bar(*arguments, **more):
    yield Bar()


@contextlib.contextmanager
def written_in_place(path, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path


def nothing(*arguments, **more):
    return None


# Definition → what stands in for it.
REPLACED = {
    "vrp:__version__": "another",
    "vrp.progress:progress": no_bar,
    "vrp.progress:progress_over": lambda work, *arguments, **more: work,
    "vrp.running.model_run:warn_skipped_items": nothing,
    "vrp.vlm.weights:quiet_loading": contextlib.nullcontext,
    "vrp.vlm.family_names:check_family": nothing,
    "vrp.vlm.families.base:decoder_refusal": nothing,
    "vrp.vlm.loading:_explained": lambda *arguments: contextlib.nullcontext(),
    "vrp.vlm.verification:verify_layout": nothing,
    "vrp.tables.atomic_files:atomic_write": written_in_place,
    "vrp.tables.atomic_files:require_writable": nothing,
    "vrp.tables.seal:check_table": nothing,
    "vrp.tables.seal:check_pages": nothing,
    "vrp.tables.atomic_files:remove_abandoned_parts": nothing,
    "vrp.running.finished_batches:FinishedBatches.discard": nothing,
    "vrp.running.gpus:claim_gpus": nothing,
    "vrp.study.context:StageContext.label": property(lambda self: "something else"),
}
# Of stages that are not run here, or run by no stage.
NOT_RUN = {
    "vrp.stages.sample", "vrp.stages.fetch_model", "vrp.logs", "vrp.download", "vrp.hub_errors",
    "vrp.vlm.out_of_memory", "vrp.termination", "vrp.config.study", "vrp.extensions",
    "vrp.study.table_origins",
}  # fmt: skip
# What a stage is handed, which counts by its values, and what states what made a table.
HANDED_OVER = {
    "vrp.study.keys", "vrp.study.command", "vrp.study.layout", "vrp.study.declarations",
    "vrp.study.graph", "vrp.study.provenance", "vrp.study.digests",
}  # fmt: skip


@pytest.mark.parametrize("name", digests.CANNOT_CHANGE_A_NUMBER)
def test_every_declaration_is_replaced_or_cannot_be(name):
    """A new one is to be replaced here, too, if it can be."""
    module, _, inner = name.partition(":")
    replaced = REPLACED if inner != "*" else {one.partition(":")[0] + ":*" for one in REPLACED}
    assert name in replaced or module in NOT_RUN | HANDED_OVER


def replace(patch, name, stand_in):
    """Put something in the place of a definition wherever the package has imported it."""
    module, _, inner = name.partition(":")
    __import__(module)
    outer, _, member = inner.partition(".")
    original = getattr(sys.modules[module], outer)
    if member:
        patch.setattr(original, member, stand_in)
        return
    for loaded in [one for key, one in sys.modules.items() if key.partition(".")[0] == "vrp"]:
        for attribute, value in list(vars(loaded).items()):
            if value is original:
                patch.setattr(loaded, attribute, stand_in)


def tables(study) -> dict[str, pl.DataFrame]:
    """What the stages that run a model write."""
    outputs = {**study.extract(batch_size=4), "consistency": study.consistency(k=2)}
    outputs |= {f"blind {name}": path for name, path in study.blind().items()}
    outputs["mask"] = study.mask([outputs["answers"]], [outputs["attention"]], items=6, dose=())
    return {name: pl.read_parquet(path) for name, path in outputs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", "auto"])
def test_tables_stay_equal(small_study, monkeypatch, family, tiny_checkpoint):
    changes = {"checkpoint": tiny_checkpoint("qwen2_vl")} if family == "auto" else {}
    before = tables(small_study(family, n_items=7, **changes))
    for name, stand_in in REPLACED.items():
        replace(monkeypatch, name, stand_in)
    study = small_study(family, n_items=7, **changes)
    study.folder = study.folder / "again"
    after = tables(study)
    assert before.keys() == after.keys()
    for name, table in before.items():
        assert table.equals(after[name]), name
    assert all(len(table) for table in before.values())

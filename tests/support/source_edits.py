"""Edits of the package's source, and the stages whose results depend on what is edited."""

from pathlib import Path
from typing import NamedTuple

MODEL_RUNS = frozenset({"extract", "blind", "consistency", "p_true", "mask", "ablate", "trace"})
"""Stages that run a model: days on a GPU."""
EVERYTHING = MODEL_RUNS | {
    "fetch_data", "fetch_model", "sample", "boxes", "gather", "metrics", "probes", "effects",
    "figures", "report", "explorer",
}  # fmt: skip
FAMILIES = ("auto", "llava", "paligemma", "qwen2_vl")


class Edit(NamedTuple):
    """One edit and what it changes the digest of."""

    changes: tuple[tuple[str, str, str], ...]
    """File of the package, text in it that is replaced (empty: append, or a new file), new text."""
    stages: frozenset[str]
    """Stages whose own digest changes, of every model family."""
    definition: str = ""
    """One of the definitions that differ, as a reason names it."""
    family: str = ""
    """The one model family whose jobs change; empty: all."""

    def apply(self, package: Path) -> None:
        """Carry it out in a copy of the package."""
        for path, old, new in self.changes:
            file = package / path
            text = file.read_text(encoding="utf-8") if file.exists() else ""
            assert old in text, f"{path} does not hold {old!r}: write this edit anew"
            file.write_text(text.replace(old, new, 1) if old else f"{text}\n\n{new}\n", "utf-8")


def _nothing(*changes: tuple[str, str, str]) -> Edit:
    return Edit(changes, frozenset())


def _edit(
    stages: str | frozenset[str], definition: str, *changes: tuple[str, str, str], family: str = ""
) -> Edit:
    named = frozenset(stages.split()) if isinstance(stages, str) else stages
    return Edit(changes, named, definition, family)


_FUNCTION = "def added(value):\n    return value"
_SIGNALS = "metrics probes figures report explorer"
_NEW_FAMILY = '''
"""One more family."""
from vrp.vlm.families.llava import Llava
class Other(Llava):
    name = "other"
FAMILY = Other
'''

NOTHING: dict[str, Edit] = {
    "a comment": _nothing(("stages/probes.py", "", "# A remark.")),
    "a docstring": _nothing(("stages/extract.py", '"""Answer', '"""Once more: answer')),
    "an attribute's docstring": _nothing(("vlm/model.py", '"""What differs', '"""All')),
    "a key's docstring": _nothing(("config/extract.py", '    """', '    """Once more: ')),
    "formatting": _nothing(
        ("vlm/attention_tap.py", "_MAX_COPIED = 2**22", "_MAX_COPIED = (\n    2**22\n)")
    ),
    "an annotation": _nothing(("vlm/decode.py", "vlm: VLM,", 'vlm: "VLM",')),
    "an editor's swap file": _nothing(("stages/.probes.py.swp", "", "swapped")),
    "the wording of a hub error": _nothing(
        ("hub_errors.py", "its licence is not accepted", "accept its licence")
    ),
    "the wording of a loading error": _nothing(
        ("vlm/loading.py", "it cannot be loaded (", "it could not be loaded (")
    ),
    "the wording of a refusal": _nothing(
        ("vlm/families/base.py", "its attention scores are soft-capped", "it caps its scores")
    ),
    "the wording of an error": _nothing(
        ("running/model_run.py", "holds no items; run", "is without items; run")
    ),
    "the wording of an out-of-memory error": _nothing(
        ("vlm/out_of_memory.py", "does not fit into memory even", "exceeds the memory even")
    ),
    "a message on stderr": _nothing(
        ("running/finished_batches.py", "batches were finished", "batches had been finished")
    ),
    "a message about items left out": _nothing(
        ("running/model_run.py", "items left out:", "items not run:")
    ),
    "a progress bar's text": _nothing(
        ("study/context.py", 'f"{self.stage} {self.model}"', 'f"{self.model}: {self.stage}"')
    ),
    "a progress bar's rate": _nothing(
        ("progress.py", "_LOG_INTERVAL = 10.0", "_LOG_INTERVAL = 20.0")
    ),
    "the cleaning of temporary files": _nothing(
        ("tables/atomic_files.py", "_ABANDONED_SECONDS = 6 * 3600.0", "_ABANDONED_SECONDS = 3600.0")
    ),
    "how a file gets onto the disk": _nothing(
        ("tables/atomic_files.py", "part.chmod(0o644)", "part.chmod(0o640)")
    ),
    "the choice of a GPU": _nothing(("running/gpus.py", "place += 1", "place += 2")),
    "how a stage ends": _nothing(
        ("termination.py", "the workflow that started this stage has ended", "no workflow")
    ),
    "a column's description": _nothing(
        ("tables/lens.py", '"the pair\'s logit difference"', '"logit difference of the pair"')
    ),
    "a function beside others": _nothing(
        ("vlm/attention_tap.py", "", _FUNCTION), ("signals/structural.py", "", _FUNCTION),
        ("running/model_run.py", "", _FUNCTION), ("tables/parquet_files.py", "", _FUNCTION),
    ),
    "a constant beside others": _nothing(("stats/auroc.py", "", "ADDED = 1")),
    "a method that nobody calls": _nothing(
        ("vlm/model.py", "    @property\n    def n_heads",
         "    def added(self) -> int:\n        return 1\n\n    @property\n    def n_heads"),
    ),
    "a function in another place of its file": _nothing(
        (
            "vlm/attention_tap.py", "class _Combined(",
            "def added():\n    return 1\n\n\nclass _Combined(",
        ),
    ),
    "a function of a family": _nothing(("vlm/families/llava.py", "", _FUNCTION)),
    "one more published checkpoint": _nothing(("planning/checkpoints/new.json", "", "{}")),
    "the status": _nothing(("study/status.py", "_LAST_LINES = ", "_LAST_LINES = 1 + ")),
    "the plan": _nothing(("planning/plan.py", "", "ADDED = 1")),
    "a new module": _nothing(("signals/added.py", "", _FUNCTION)),
    "a new data set": _nothing(
        ("data/datasets/other.py", "", "from vrp.data.datasets.vqa import DATASET"),
    ),
    "the reader of another data set": _nothing(
        ("data/datasets/own.py", "order=90", "order=91")
    ),
    "a new family": _nothing(("vlm/families/other.py", "", _NEW_FAMILY)),
}  # fmt: skip
"""Edits after which nothing runs again."""

SOMETHING: dict[str, Edit] = {
    # What a model is asked, family by family.
    "PaliGemma's prompt": _edit(
        MODEL_RUNS, "vrp.vlm.families.paligemma:PaliGemma",
        ("vlm/families/paligemma.py", '"{question}\\n"', '"{question}?\\n"'), family="paligemma",
    ),
    "LLaVA's system prompt": _edit(
        MODEL_RUNS, "vrp.vlm.families.llava:SYSTEM",
        ("vlm/families/llava.py", "A chat between a curious", "A talk between a curious"),
        family="llava",
    ),
    "a family's class attribute": _edit(
        MODEL_RUNS, "vrp.vlm.families.base:Family",
        ("vlm/families/base.py", "adds_special_tokens: bool = False",
         "adds_special_tokens: bool = True"),
    ),
    # What is read in the model.
    "the attention tap": _edit(
        MODEL_RUNS, "vrp.vlm.attention_tap:last_query_rows",
        ("vlm/attention_tap.py", "scores.softmax(-1)", "(2 * scores).softmax(-1)"),
    ),
    "the lens": _edit(
        MODEL_RUNS - {"consistency", "trace"}, "vrp.vlm.lens:_frozen_norm",
        ("vlm/lens.py", "return scale * vlm", "return 2 * scale * vlm"),
    ),
    "a constant of the tap": _edit(
        MODEL_RUNS, "vrp.vlm.attention_tap:_MAX_COPIED",
        ("vlm/attention_tap.py", "_MAX_COPIED = 2**22", "_MAX_COPIED = 2**21"),
    ),
    "the batches": _edit(
        MODEL_RUNS, "vrp.vlm.batching:_BUCKET_WIDTH",
        ("vlm/batching.py", "_BUCKET_WIDTH = ", "_BUCKET_WIDTH = 1 + "),
    ),
    "how an image is decoded": _edit(
        MODEL_RUNS | {"sample", "report", "explorer"}, "vrp.data.images:decode_image",
        ("data/images.py", "_to_rgb(ImageOps.exif_transpose(image), name)", "_to_rgb(image, name)"),
    ),
    "the sampling of answers": _edit(
        "consistency", "vrp.vlm.nucleus_sampling:find_nucleus",
        ("vlm/nucleus_sampling.py", "mass_before >= top_p", "mass_before > top_p"),
    ),
    "the hidden tokens": _edit(
        "mask effects figures report explorer", "vrp.interventions.masking:_least_attended",
        ("interventions/masking.py", "return least_attended(image.attention, share)",
         "return least_attended(image.attention, share / 2)"),
    ),
    # What a stage is given, and hands on.
    "the seed of the samples": _edit(
        "consistency", "vrp.stages.consistency:run",
        ("stages/consistency.py", "seed=study.seed", "seed=study.seed + 1"),
    ),
    "the positions of the blank-image run": _edit(
        "blind", "vrp.stages.blind:run",
        ("stages/blind.py", "tuple(extract.positions)", "tuple(extract.positions[:1])"),
    ),
    "the longest answers": _edit(
        MODEL_RUNS - {"p_true", "trace"}, "vrp.config.extract:answer_limits",
        ("config/extract.py", "lambda: extract.max", "lambda: 2 * extract.max"),
    ),
    "how a stage is handed its files": _edit(
        EVERYTHING - {"gather"}, "vrp.study.command:run_stage",
        ("study/command.py", "list(given or ())", "sorted(given or ())"),
    ),
    # Scoring, signals, statistics.
    "the scoring of POPE": _edit(
        MODEL_RUNS | {"effects", "explorer"}, "vrp.data.scoring:parse_pope_strict",
        ("data/scoring.py", "if len(kinds) == 1 else None", "if kinds else None"),
    ),
    "VQA's articles": _edit(
        MODEL_RUNS
        | {"fetch_data", "sample", "metrics", "probes", "effects", "figures", "report", "explorer"},
        "vrp.data.scoring:_ARTICLES",
        ("data/scoring.py", '{"a", "an", "the"}', '{"a", "an"}'),
    ),
    "the entropy formula": _edit(
        "extract metrics figures report", "vrp.signals.structural:spatial_entropy",
        ("signals/structural.py", "-(values * np.log(values + ENTROPY_OFFSET))",
         "-(values * np.log2(values + ENTROPY_OFFSET))"),
    ),
    "a signal beside others": _edit(
        _SIGNALS, "vrp.signals.registry:_BUILT_IN",
        ("signals/registry.py", "_BUILT_IN: tuple[Signal, ...] = (",
         '_BUILT_IN: tuple[Signal, ...] = (\n    _structural("added", "a", "1", "a", "low"),'),
    ),
    "the AUROC": _edit(
        "metrics probes figures report", "vrp.stats.auroc:_value",
        ("stats/auroc.py", ".sum()) / 2 for", ".sum()) / 3 for"),
    ),
    "the probe's penalties": _edit(
        "probes", "vrp.probing.linear:MAX_ITERATIONS",
        ("probing/linear.py", "MAX_ITERATIONS = 2000", "MAX_ITERATIONS = 2001"),
    ),
    "the effects": _edit(
        "effects", "vrp.stages.effects:run",
        ("stages/effects.py", 'for schema in (MASK, ABLATE):', 'for schema in (ABLATE, MASK):'),
    ),
    # Inputs and outputs.
    "how a table is written": _edit(
        MODEL_RUNS | {"sample", "boxes", "metrics", "probes", "effects"},
        "vrp.tables.parquet_files:write_table",
        ("tables/parquet_files.py", 'compression="zstd"', 'compression="snappy"'),
    ),
    "a column's type": _edit(
        "extract metrics probes figures report explorer", "vrp.tables.lens:LENS",
        ("tables/lens.py", 'optional("pair_top", integer', 'optional("pair_top", number'),
    ),
    "a column of one table": _edit(
        "effects figures report", "vrp.tables.effects:EFFECTS",
        ("tables/effects.py", 'column("n_groups", integer', 'column("n_images", integer'),
    ),
    "the reader of VQA": _edit(
        "fetch_data sample figures report explorer", "vrp.data.vqa_task_rules:_RELATIONS",
        ("data/vqa_task_rules.py", "next to|beside|", "next to|"),
    ),
    "the drawn scenes": _edit(
        "fetch_data", "vrp.data.scenes.draw:_category_weights",
        ("data/scenes/draw.py", "def _category_weights(**", "def _category_weights(*, new=1, **"),
    ),
    "a checkpoint's files": _edit(
        MODEL_RUNS | {"fetch_model"}, "vrp.vlm.checkpoint_files:PATTERNS",
        ("vlm/checkpoint_files.py", '    "tokenizer*",\n', '    "tokenizer*",\n    "*.txt",\n'),
    ),
    "the list of shards": _edit(
        "gather", "vrp.stages.gather:run",
        ("stages/gather.py", "enumerate(of_table)", "enumerate(of_table, 1)"),
    ),
    # What people look at.
    "a figure": _edit(
        "figures report", "vrp.plots.figures.masking:draw",
        ("plots/figures/masking.py", "heights=[rows.height]", "heights=[1 + rows.height]"),
    ),
    "a figure's caption": _edit(
        "figures report", "vrp.plots.figures.masking:CAPTION",
        ("plots/figures/masking.py", "Change in accuracy (perc", "Difference in accuracy (perc"),
    ),
    "the page's style": _edit(
        "report explorer", "vrp.report:templates/style.css",
        ("report/templates/style.css", "", "p { margin: 0 }"),
    ),
}  # fmt: skip
"""Edits after which something runs again."""

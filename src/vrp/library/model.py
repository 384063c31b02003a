"""A model that answers one question at a time, using the code of the stages that fill the
tables."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from vrp.config.ablate import AblateConfig
from vrp.config.consistency import ConsistencyConfig
from vrp.config.data import DataConfig
from vrp.config.extract import Captured, ExtractConfig, answer_limits
from vrp.config.mask import MaskConfig
from vrp.config.sample import ScoringConfig
from vrp.config.section import Section
from vrp.data.datasets import all_tasks
from vrp.data.images import open_image
from vrp.data.item import EXISTENCE, OPEN, ImageSize, Item
from vrp.data.scoring import parse_pope_strict
from vrp.errors import InputError, unknown_name
from vrp.interventions.masking import SHAM
from vrp.library.reading import Reading
from vrp.running.attention_rows import attention_rows
from vrp.running.captured_rows import answer_rows, blind_score_rows, hidden_rows, lens_rows
from vrp.running.image_rankings import ItemMaps
from vrp.running.model_manifest import local_folder
from vrp.running.model_run import ItemBatches, StudyImages
from vrp.running.shard import with_nulls
from vrp.signals.registry import compute_signals
from vrp.signals.sinks import sink_mask
from vrp.stages.consistency import consistency_row
from vrp.stages.metrics import signal_inputs
from vrp.tables.answers import ANSWERS
from vrp.tables.arrays import as_matrices
from vrp.tables.attention import ATTENTION
from vrp.tables.blind_scores import BLIND_SCORES
from vrp.tables.boxes import BOXES
from vrp.tables.columns import rows_table
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.lens import LENS
from vrp.tables.notes import NON_FINITE
from vrp.tables.p_true import P_TRUE
from vrp.tables.schema import TableSchema

if TYPE_CHECKING:
    from vrp.stages.ablate import FoldProbes
    from vrp.stages.mask import MaskedModel, ObjectBoxes
    from vrp.vlm.decode import ItemCapture
    from vrp.vlm.model import VLM

_Kind = TypeVar("_Kind", bound=Section)

ImageLike = Image.Image | str | Path
"""An image, or its file."""
Rows = Sequence[Mapping[str, Any]]
"""Rows as in `mask.conditions` or `ablate.conditions` of a configuration."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is asked and read: the settings of a study's configuration, or the defaults."""

    seed: int = 0
    """Seed of sampled answers and random conditions, together with the item's id."""
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """Maximum lengths of answers, and the quantities that are read."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    """When an answer is correct."""
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    """Sampled answers."""
    p_true: bool = False
    """Whether the model is asked to judge its own answer."""
    map_layers: tuple[int, ...] | None = None
    """Decoder layers averaged into the attention map; None: all."""
    heavy_places: Mapping[tuple[int, int], NDArray[np.bool_]] = field(default_factory=dict)
    """Grid → (n_layers, S): places that are attention sinks in most images of a study."""
    probes: "Mapping[int, FoldProbes]" = field(default_factory=dict)
    """Fold → its probes, which conditions of the ablation use."""
    fold_of: Mapping[str, int] = field(default_factory=dict)
    """Item of the study → the fold that held it out."""


def load(
    source: str | Path | tuple[Any, Any],
    *,
    family: str | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    device_map: str | None = None,
    prompt: str = "short_answer",
    image_policy: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    settings: Settings | None = None,
) -> "Model":
    """Load a vision-language model that can be read.

    Args:
        source: `zoo:llava`, `zoo:paligemma` or `zoo:qwen2_vl`, a hub id, a checkpoint's folder, or
            a pair of a loaded transformers model and its processor. A loaded model is put into
            evaluation mode, and its attention is computed by `sdpa`.
        family: name of the model family; None: the one that fits the checkpoint.
        revision: commit, tag or branch of a hub checkpoint.
        dtype: float32, bfloat16 or float16; of a loaded model its own.
        device: cpu, cuda, cuda:0 …, or auto for a GPU if there is one.
        device_map: how a model that does not fit on one GPU is distributed, such as auto.
        prompt: the family's prompt variant: `short_answer`, `plain`, or one of its own.
        image_policy: how images are resized or cropped; None: the family's default.
        min_pixels: minimum number of pixels after resizing, for dynamic resolution.
        max_pixels: maximum number of pixels after resizing, for dynamic resolution.
        settings: how it is asked and read; None: the defaults of a study's configuration.

    Raises:
        InputError: there is no such checkpoint, it cannot be read, or an option does not fit it.
    """
    from vrp.vlm.config_and_processor import load_config
    from vrp.vlm.families import infer_family
    from vrp.vlm.families.base import FamilyOptions
    from vrp.vlm.loading import bind_vlm, load_vlm

    chosen = settings or Settings()
    if isinstance(source, tuple):
        options = FamilyOptions(prompt, image_policy, min_pixels, max_pixels)
        model, processor = source
        return Model(bind_vlm(model, processor, family=family, options=options), chosen)
    place = local_folder(str(source)) or str(source)
    vlm = load_vlm(
        place, family=family or infer_family(load_config(place, revision)), revision=revision,
        dtype=dtype, device=device, device_map=device_map, prompt=prompt,
        image_policy=image_policy, min_pixels=min_pixels, max_pixels=max_pixels,
    )  # fmt: skip
    return Model(vlm, chosen)


class GivenImages(StudyImages):
    """Images that are in memory, in place of a data folder's."""

    def __init__(self, images: Mapping[str, Image.Image]) -> None:
        """Bind them, by item id."""
        super().__init__(DataConfig())
        self._given = images

    def open(self, item: Item) -> Image.Image:
        """Return the item's image."""
        return self._given[item.item_id]

    def size(self, item: Item) -> ImageSize:
        """Return its width and height in pixels."""
        return self._given[item.item_id].size


@dataclass(frozen=True)
class Model:
    """A loaded model that answers one question at a time; returned by `vrp.load`."""

    vlm: "VLM"
    """The model with its family and tokenizer."""
    settings: Settings = field(default_factory=Settings)
    """How it is asked and read."""

    def __repr__(self) -> str:
        """Name the family, the size and the dtype."""
        vlm = self.vlm
        dtype = str(vlm.dtype).removeprefix("torch.")
        return (
            f"Model({vlm.family.name!r}, n_layers={vlm.n_layers}, d_model={vlm.d_model}, {dtype})"
        )

    def read(
        self,
        image: ImageLike,
        question: str,
        *,
        k: int | None = None,
        capture: Sequence[Captured] | None = None,
        blind: bool | None = None,
        p_true: bool | None = None,
        task: str | None = None,
        answers: Sequence[str] = (),
        reference: str | None = None,
        boxes: ArrayLike | None = None,
        item_id: str | None = None,
    ) -> Reading:
        """Ask one question, and read everything that a study's tables hold for an item.

        Signals have the same names and values as in the tables: `model.read(**study.item(item_id))`
        reads an item of a study.

        Args:
            image: the image, or its file.
            question: the bare question; the prompt is added.
            k: number of answers to sample; 0: none, and no distribution over answers. None: as in
                the settings.
            capture: quantities to read in addition to answer and hidden state, as in
                `extract.capture` of a configuration; None: as in the settings.
            blind: whether to score the answer also with a blank image. None: as in the settings.
            p_true: whether to ask the model to judge its answer. None: as in the settings.
            task: what the question asks for, such as existence, counting, spatial or open; it
                decides how answers are parsed. None: existence if the reference is yes or no, else
                open.
            answers: every annotator's answer; the answer is then right or wrong, and the truth
                margin known. Needs `reference`.
            reference: the right answer, normalised; the default of `answers` is this one alone.
            boxes: (n, 4) left, top, right and bottom, in pixels, of the object that the question
                asks for.
            item_id: name of the item, from which the sampled answers derive. None: a digest of
                image and question.

        Raises:
            InputError: no such image or task, or a question that does not fit the model.
        """
        item, shown = _item(image, question, task, answers, reference, item_id)
        chosen = self.settings if k is None else self._sampling(k)
        extract = chosen.extract
        if capture is not None:
            extract = _section(extract, capture=tuple(capture))
        asked = _Question(self.vlm, replace(chosen, extract=extract), item, shown)
        tables = asked.answered()
        if k != 0:
            tables["consistency"] = asked.sampled()
        if extract.blind if blind is None else blind:
            tables["blind_scores"] = asked.blind_scored(tables["answers"])
        if chosen.p_true if p_true is None else p_true:
            tables["p_true"] = asked.judged(tables["answers"])
        if boxes is not None:
            tables["boxes"] = _boxes_table(item, shown, boxes)
        signals = asked.signals(tables)
        return Reading(item, shown, tables, signals, self.vlm.family.image_policy)

    def intervene(
        self,
        image: ImageLike,
        question: str,
        conditions: Rows = (),
        *,
        ablate: Rows = (),
        task: str | None = None,
        answers: Sequence[str] = (),
        reference: str | None = None,
        boxes: ArrayLike | None = None,
        item_id: str | None = None,
    ) -> pl.DataFrame:
        """Ask one question with image tokens hidden, or neurons ablated.

        Args:
            image: the image, or its file.
            question: the bare question.
            conditions: rows as in `mask.conditions` of a configuration, such as
                `{"kind": "top", "share": 0.3}`. A condition that shows another item's image needs a
                study; `mode: embedding` takes the mean embedding of this image alone.
            ablate: rows as in `ablate.conditions`, such as `{"kind": "top", "count": 5}`. They use
                a study's probes, so the model must be loaded with `study.load`. For an item of the
                study, the probes fitted without it are used.
            task: as in `read`.
            answers: as in `read`.
            reference: as in `read`; without it, answers are neither right nor wrong.
            boxes: as in `read`, for conditions on the object.
            item_id: as in `read`; random conditions derive from it.

        Returns:
            One row per condition and repeat, the baseline first: `intervention`, `condition`,
            `seed`, `answer`, `parsed`, `correct`, `changed`, `decision_margin`, `share`,
            `n_masked`, `layer`, `n_neurons`; null if a column belongs to the other intervention.

        Raises:
            InputError: a row is wrong or does not fit the model, or the question is refused as in
                `read`.
        """
        item, shown = _item(image, question, task, answers, reference, item_id)
        asked = _Question(self.vlm, self.settings, item, shown)
        baseline = asked.baseline()
        frames = [baseline]
        if conditions:
            frames.append(asked.masked(conditions, boxes))
        if ablate:
            frames.append(asked.ablated(ablate))
        found = pl.concat(frames, how="diagonal_relaxed").drop("item_id", "score")
        found = found.filter(pl.col("condition") != SHAM)  # the baseline, once more
        first = ["intervention", "condition", "seed", "answer", "parsed", "correct", "changed"]
        return found.select(*first, pl.exclude(first))

    def _sampling(self, k: int) -> Settings:
        if k == 0:
            return self.settings
        return replace(self.settings, consistency=_section(self.settings.consistency, k=k))


class _Question:
    """One item on its way through the stages' code."""

    def __init__(self, vlm: "VLM", settings: Settings, item: Item, image: Image.Image) -> None:
        self.vlm, self.settings, self.item = vlm, settings, item
        self.items = {item.item_id: item}
        self.images = GivenImages({item.item_id: image})
        self.limits = answer_limits(settings.extract)

    def batches(self, **options: Any) -> ItemBatches:
        """The item alone, in a batch; a prompt that is too long is refused."""
        given = {"max_new_tokens": self.limits, **options}
        batches = ItemBatches(self.vlm, self.items, self.images, batch_size=1, **given)
        assert batches.plan == [(self.item.item_id,)]
        return batches

    @cached_property
    def capture(self) -> "ItemCapture":
        """The greedy answer and what was read with it."""
        from vrp.stages.extract import capture_spec
        from vrp.vlm.decode import run_batch

        inputs = self.batches(truth=True).inputs(self.items)
        spec = capture_spec(self.settings.extract)
        (found,) = run_batch(self.vlm, inputs, spec, max_new_tokens=self.limits)
        return found

    def answered(self) -> dict[str, pl.DataFrame]:
        """The rows that the stage extract writes."""
        captures, settings = [self.capture], self.settings
        return {
            "answers": _frame(answer_rows(captures, self.items, settings.scoring), ANSWERS),
            "attention": _frame(attention_rows(captures), ATTENTION),
            "lens": _frame(lens_rows(captures, self.items), LENS),
            "hidden": _as_frame(hidden_rows(captures, dtype=settings.extract.hidden_dtype)),
        }

    def sampled(self) -> pl.DataFrame:
        """The row that the stage consistency writes."""
        from vrp.vlm.answer_distribution import sample_answers

        settings = self.settings.consistency
        (samples,) = sample_answers(
            self.vlm, self.batches().inputs(self.items), k=settings.k,
            temperature=settings.temperature, top_p=settings.top_p, seed=self.settings.seed,
            max_new_tokens=self.limits, floor=settings.floor,
        )  # fmt: skip
        row = consistency_row(self.item, samples, self.settings.scoring)
        return _as_frame(rows_table(CONSISTENCY, [row]))

    def blind_scored(self, answers: pl.DataFrame) -> pl.DataFrame:
        """The probability, with a blank image, of the answer that was given."""
        from vrp.vlm.batching import GivenAnswer
        from vrp.vlm.decode import run_batch

        row = answers.row(0, named=True)
        given = GivenAnswer(tuple(row["token_ids"]), tuple(row["first_token_ids"] or ()))
        batches = self.batches(blank=True, given={self.item.item_id: given})
        captures = run_batch(self.vlm, batches.inputs(self.items), max_new_tokens=1)
        return _frame(blind_score_rows(captures), BLIND_SCORES)

    def judged(self, answers: pl.DataFrame) -> pl.DataFrame:
        """The model's own judgement of the answer that was given."""
        from vrp.stages.p_true import first_tokens, judgement_rows, judgements
        from vrp.vlm.batching import GivenAnswer
        from vrp.vlm.decode import run_batch

        answer = {self.item.item_id: answers["answer"][0]}
        asked = judgements(self.items, answer)
        yes, no = (first_tokens(self.vlm, word) for word in ("yes", "no"))
        given = {self.item.item_id: GivenAnswer((), (*yes, *no))}
        batches = ItemBatches(
            self.vlm, asked, self.images, batch_size=1, given=given, max_new_tokens=1
        )
        captures = run_batch(self.vlm, batches.inputs(asked), max_new_tokens=1)
        return _frame(judgement_rows(captures, asked, answer, n_yes=len(yes)), P_TRUE)

    def signals(self, tables: Mapping[str, pl.DataFrame]) -> dict[str, float]:
        """Every signal, as the stage metrics computes it."""
        inputs = signal_inputs(tables, np.array([0]), tables["attention"], self.settings.map_layers)
        computed = compute_signals(
            replace(
                inputs,
                heavy_places=self.settings.heavy_places,
                image_policy=self.vlm.family.image_policy,
            )
        )
        no_answer = tables["answers"]["note"][0] == NON_FINITE
        return {
            name: float("nan") if no_answer else float(np.float32(values[0]))
            for name, values in computed.items()
        }

    # Interventions

    @cached_property
    def _greedy(self) -> dict[str, str]:
        return {self.item.item_id: self.capture.answer}

    def baseline(self) -> pl.DataFrame:
        """The row of the answer without any intervention."""
        from vrp.running.outcomes import outcome

        row = outcome(self.item, self.capture, self._greedy, self.settings.scoring)
        return pl.DataFrame([{"intervention": "none", "condition": "none", "seed": 0, **row}])

    def masked(self, rows: Rows, boxes: ArrayLike | None) -> pl.DataFrame:
        """The rows that the stage mask writes."""
        from vrp.interventions.masking import mask_conditions
        from vrp.stages.mask import MaskedModel

        conditions = mask_conditions(_section(MaskConfig(), conditions=rows))
        for condition in conditions:
            if condition.shows == "other":
                raise InputError(f"{condition.name}: there is no other item whose image is shown")
        item_id = self.item.item_id
        masked = MaskedModel(
            self.vlm, self.images, self.settings.seed, {item_id: self._maps()},
            self._objects(boxes), self.items, {}, self.limits, 1,
        )  # fmt: skip
        masked.require_layers(conditions)
        self._require_possible(masked, conditions)
        found = masked.outcomes(
            self.batches(), [item_id], conditions, self._greedy, self.settings.scoring
        )
        return _rows_frame(found, MASK, "mask")

    def _require_possible(self, masked: "MaskedModel", conditions: Sequence[Any]) -> None:
        item_id = self.item.item_id
        if not masked.is_usable(item_id, conditions):
            raise InputError("the attention map of this item is not usable: no token can be ranked")
        of_object = [condition.name for condition in conditions if condition.of_object]
        if of_object and not masked.shows_object(item_id):
            raise InputError(
                f"{of_object[0]}: give the boxes of the object that the question asks for, which "
                "must cover some image tokens and not all"
            )

    def _maps(self) -> ItemMaps:
        if not {"attention", "residual_update"} <= set(self.settings.extract.capture):
            raise InputError(
                "conditions rank image tokens by attention: have attention and residual_update in "
                "extract.capture"
            )
        row = _frame(attention_rows([self.capture]), ATTENTION)
        (maps,) = as_matrices(row["maps"])
        sinks = sink_mask(row["sinks"][0].to_numpy(), *maps.shape)
        grid = (row["grid_h"][0], row["grid_w"][0])
        if grid in self.settings.heavy_places:
            sinks = sinks | self.settings.heavy_places[grid]
        return ItemMaps(maps, sinks)

    def _objects(self, boxes: ArrayLike | None) -> "dict[str, ObjectBoxes]":
        from vrp.stages.mask import ObjectBoxes

        if boxes is None:
            return {}
        found = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        return {self.item.item_id: ObjectBoxes(found, self.images.size(self.item))}

    def ablated(self, rows: Rows) -> pl.DataFrame:
        """The rows that the stage ablate writes."""
        from vrp.interventions.ablation import ablation_conditions
        from vrp.running.outcomes import outcome
        from vrp.stages.ablate import answers_under, check_sizes, edit_of, is_told, site_columns

        settings, item_id = self.settings, self.item.item_id
        if not settings.probes:
            raise InputError(
                "ablate: these conditions read a study's probes; load the model with "
                "vrp.Study(folder).load(name)"
            )
        conditions = ablation_conditions(_section(AblateConfig(), conditions=rows))
        if of_mlp := [condition.name for condition in conditions if condition.site == "mlp"]:
            raise InputError(
                f"{of_mlp[0]}: its units are ranked over a study's items; run the study"
            )
        # Of an item that is not the study's, every fold's probes are held out.
        fold = settings.fold_of.get(item_id, min(settings.probes))
        probes = settings.probes[fold]
        check_sizes(conditions, self.vlm, [probes])
        told = [one for one in conditions if is_told(one, probes, self.vlm.n_layers)]
        edits = [edit_of(one, probes, self.vlm, {}, seed=settings.seed) for one in told]
        inputs = self.batches().inputs(self.items)
        answers = answers_under(self.vlm, inputs, edits, self.limits)
        found = [
            site_columns(condition, edit)
            | outcome(self.item, capture, self._greedy, settings.scoring)
            for condition, edit, (capture,) in zip(told, edits, answers, strict=True)
        ]
        return _rows_frame(found, ABLATE, "ablate")


def _item(
    image: ImageLike,
    question: str,
    task: str | None,
    answers: Sequence[str],
    reference: str | None,
    item_id: str | None,
) -> tuple[Item, Image.Image]:
    """The question as an item, and its image as the study would open it."""
    shown = image.convert("RGB") if isinstance(image, Image.Image) else open_image(Path(image))
    if answers and reference is None:
        raise InputError("answers: give reference, too, the normalised answer that is right")
    yes_no = reference is not None and parse_pope_strict(reference) is not None
    task = task or (EXISTENCE if yes_no else OPEN)
    if task not in all_tasks():
        raise InputError(unknown_name("task", task, all_tasks()))
    digest = hashlib.sha256(shown.tobytes()).hexdigest()
    named = hashlib.sha256(f"{digest}\n{question}".encode()).hexdigest()[:16]
    item = Item(
        dataset="pope" if task == EXISTENCE else "own", split="", task=task, question_id=named,
        image="", question=question, answers=list(answers or filter(None, [reference])),
        reference=reference, item_id=item_id or named, group=digest, image_sha256=digest,
    )  # fmt: skip
    return item, shown


def _section(section: _Kind, **values: Any) -> _Kind:
    """A section of a configuration with other values, which are checked."""
    from pydantic import ValidationError

    try:
        return type(section).model_validate({**section.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None


def _boxes_table(item: Item, image: Image.Image, boxes: ArrayLike) -> pl.DataFrame:
    row = {
        "item_id": item.item_id, "object": None, "image_width": image.width,
        "image_height": image.height, "note": None,
        "boxes": np.asarray(boxes, dtype=np.float32).reshape(-1, 4).tolist(),
    }  # fmt: skip
    return _as_frame(rows_table(BOXES, [row]))


def _frame(rows: pa.Table, schema: TableSchema) -> pl.DataFrame:
    """Rows as a reader of the table sees them: every column, in the precision that is stored."""
    return _as_frame(with_nulls(rows, schema).select(schema.columns.names).cast(schema.columns))


def _as_frame(table: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


def _rows_frame(rows: Rows, schema: TableSchema, intervention: str) -> pl.DataFrame:
    frame = pl.DataFrame(list(rows), infer_schema_length=None)
    return frame.select(pl.lit(intervention).alias("intervention"), *schema.columns.names)

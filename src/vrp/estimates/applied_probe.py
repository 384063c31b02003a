"""A saved probe applied to another study: does it read there what it read where it was fitted?"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.errors import InputError
from vrp.estimates.probe_inputs import Layers, item_ids_at
from vrp.estimates.reported import ReportedEstimate
from vrp.probing.labels import LINEAR_BEST
from vrp.stats.auroc import (
    auroc_difference,
    auroc_estimate,
    clustered_auroc,
    stratified_auroc,
)
from vrp.stats.clusters import ClusteredEstimate, numbered
from vrp.tables.estimates import WITHIN_STRATA
from vrp.tables.hidden import written_hidden_table
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.saved_probe import ProbeFile, SavedProbe, image_digests, read_saved_probe
from vrp.tables.schema import column, flag, precise, table, text
from vrp.tables.seal import read_provenance
from vrp.tables.shard_list import listed_shards, read_shard_list
from vrp.tables.signals import signal_table, strata_of

APPLIED_SCORES = table(
    "applied_scores",
    ("item_id",),
    column("item_id", text, "item"),
    column("score", precise, "log-odds of a right answer, from another study's probe"),
    column("correct", flag, "whether the greedy answer is correct"),
)
"""Rows of `vrp probes --apply … --scores`."""


class TargetStudy(NamedTuple):
    """The model's folder that a probe is applied to."""

    folder: Path
    name: str
    """Study and model."""
    weights: str
    """Digest of the model's weights, as its hidden states state it."""
    hidden: tuple[Path, ...]
    """Shards of the hidden states."""
    signals: pl.DataFrame
    """All rows of its signals table; where its probes have run, with `own` (score of its own best
    linear probe) and `fold`."""


class AppliedStratum(NamedTuple):
    """How well the probe tells right from wrong in one stratum, or within all of them."""

    name: str
    """Task and answer form; `within_strata` for the van Elteren-weighted mean."""
    n: int
    """Items."""
    n_images: int
    applied: ReportedEstimate
    """AUROC of the applied probe."""
    own: ReportedEstimate | None
    """AUROC, on the same items, of the best linear probe that was fitted in the study itself, out
    of fold and within folds; None where its probes have not run."""


class AppliedProbe(NamedTuple):
    """A probe's AUROC in another study."""

    probe: str
    """Study and model that it was fitted in."""
    target: str
    """Study and model that it was applied to."""
    layer: str
    position: str
    fitted_on: tuple[int, int]
    """Items and images that it was fitted on."""
    same_weights: bool
    """Whether both are of the very same weights."""
    n_items: int
    """Items that are evaluated."""
    n_images: int
    n_fitted: int
    """Judged items left out, since the probe was fitted on their images."""
    n_not_finite: int
    """Judged items left out, since they have no finite state, or no score of the study's own
    probe to be compared with."""
    strata: tuple[AppliedStratum, ...]
    """Within strata first; none where no item is left."""
    gap: ReportedEstimate | None
    """Applied minus own, within strata; None where there is no own one."""


def read_target(folder: Path) -> TargetStudy:
    """Read a model's folder of a finished study, such as `results/other/llava`.

    Raises:
        InputError: it lacks the signals table or the list of its shards, a file is damaged, or no
            answer there is judged.
    """
    signals, listed = folder / "signals.parquet", folder / "extract.json"
    for path in (signals, listed):
        if not path.is_file():
            raise InputError(
                f"{folder}: holds no {path.name}; give the folder of one model of a study whose "
                "metrics have run, such as results/demo/llava"
            )
    origin = read_provenance(signals)
    rows = read_table(signals, signal_table())
    if rows["correct"].null_count() == len(rows):
        raise InputError(f"{folder}: no answer is judged, since no item has a reference answer")
    predictions = folder / "predictions.parquet"
    if predictions.is_file():
        own = read_table(predictions, PREDICTIONS).filter(probe=LINEAR_BEST)
        if own["score"].is_finite().any():
            own = own.select("item_id", "fold", pl.col("score").alias("own"))
            rows = rows.join(own, on="item_id", how="left", maintain_order="left")
    return TargetStudy(
        folder, f"{origin.get('study', '?')}/{origin.get('model', '?')}",
        read_shard_list(listed).made_by.get("weights", ""),
        tuple(listed_shards(listed, "hidden")), rows,
    )  # fmt: skip


def apply_probe(
    file: Path, target: TargetStudy, *, other_weights: bool = False
) -> tuple[AppliedProbe, pl.DataFrame]:
    """Score the judged items of a study by a probe that was fitted in another one.

    Items on images that the probe was fitted on are left out.

    Args:
        file: `probe.safetensors` of a model.
        target: the study.
        other_weights: whether the model may have other weights than those that the probe read.

    Returns:
        The AUROCs, and the rows of `APPLIED_SCORES`.

    Raises:
        InputError: the file is no probe, or holds none; another model, width, layer or position.
    """
    saved = read_saved_probe(file)
    probe, layers = _require_fitting(file, saved, target, other_weights=other_weights)
    scored = _scored(probe, layers, target)
    new = scored.filter(~pl.col("fitted"))
    known = pl.col("score").is_finite()
    if "own" in new.columns:
        known &= pl.col("own").is_finite()
    used = new.filter(known.fill_null(False))
    strata, gap = _strata(used) if len(used) else ((), None)
    origin = saved.provenance
    found = AppliedProbe(
        f"{origin.get('study', '?')}/{origin.get('model', '?')}", target.name, probe.layer,
        probe.position, (probe.n_items, len(probe.images)),
        origin.get("weights", "") == target.weights, len(used), used["group"].n_unique(),
        len(scored) - len(new), len(new) - len(used), strata, gap,
    )  # fmt: skip
    return found, used.select(APPLIED_SCORES.columns.names)


def write_scores(path: Path, scores: pl.DataFrame, found: AppliedProbe) -> None:
    """Write the score of every evaluated item as a table.

    Raises:
        InputError: the folder cannot be written.
    """
    study, _, model = found.target.partition("/")
    origin = {"study": study, "model": model, "probe": found.probe, "layer": found.layer}
    write_table(path, APPLIED_SCORES, scores, provenance=origin)


def _require_fitting(
    file: Path, saved: ProbeFile, target: TargetStudy, *, other_weights: bool
) -> tuple[SavedProbe, Layers]:
    """Return the probe, and the hidden states at its position."""
    probe, folder = saved.probe, target.folder
    if probe is None:
        raise InputError(
            f"{file}: holds no probe: its study has no right and wrong answers to fit one on; "
            "give that of a study with reference answers"
        )
    weights = saved.provenance.get("weights", "")
    if weights != target.weights and not other_weights:
        raise InputError(
            f"{file}: was fitted on a model with weights {weights or 'unknown'}, {folder} is of "
            f"weights {target.weights or 'unknown'}: neurons of one mean nothing in the other; "
            "give a study of the same model, or --other-weights"
        )
    schema = written_hidden_table(target.hidden[0])
    layers = Layers(target.hidden, schema, np.ones(len(target.signals), bool), probe.position)
    if layers.width != probe.weights.size:
        raise InputError(
            f"{file}: reads {probe.weights.size} neurons a layer, {folder} has {layers.width}; "
            "give a study of the same model"
        )
    if probe.layer not in layers.names:
        raise InputError(
            f"{file}: reads {probe.layer}, {folder} has {layers.names[0]} to {layers.names[-1]}; "
            "give a study of the same model"
        )
    if not item_ids_at(target.hidden, schema, probe.position).equals(target.signals["item_id"]):
        raise InputError(
            f"{folder}: its hidden states do not have each item of its signals at "
            f"{probe.position}; rerun its extract stage with that position, and metrics"
        )
    return probe, layers


def _scored(probe: SavedProbe, layers: Layers, target: TargetStudy) -> pl.DataFrame:
    """Judged rows of the signals with `score`, and `fitted`: whether the probe knows the image."""
    scores = np.full(len(target.signals), np.nan)
    with np.errstate(invalid="ignore"):  # a state that is not finite has no score
        for rows, states in layers.pieces(probe.layer):
            scores[rows] = probe.log_odds(states)
    known = {digest.tobytes() for digest in probe.images}
    fitted = [one.tobytes() in known for one in image_digests(target.signals["group"])]
    return target.signals.with_columns(
        score=pl.Series(scores), fitted=pl.Series(fitted, dtype=pl.Boolean)
    ).drop_nulls("correct")


def _strata(used: pl.DataFrame) -> tuple[tuple[AppliedStratum, ...], ReportedEstimate | None]:
    """The probe in every stratum, beside the study's own, and their difference within strata."""
    applied, own = _aurocs(used, "score"), None
    if "own" in used.columns:
        # Each fold has a fit of its own, whose scores are not compared with another fold's.
        own = _aurocs(used, "own", folds=used["fold"].to_numpy())
    names = strata_of(used)
    rows = []
    for name, part in applied.items():
        n, n_images = part.n, part.n_groups
        if name != WITHIN_STRATA:  # one that is too small has no estimate, but items
            groups = used["group"].filter(names == name)
            n, n_images = len(groups), groups.n_unique()
        of_own = _reported(own[name]) if own else None
        rows.append(AppliedStratum(name, n, n_images, _reported(part), of_own))
    return tuple(rows), _gap(applied[WITHIN_STRATA], own[WITHIN_STRATA]) if own else None


def _aurocs(
    used: pl.DataFrame, score: str, *, folds: NDArray[np.integer] | None = None
) -> dict[str, ClusteredEstimate]:
    """Within strata, then of each stratum: how well a column tells right from wrong."""
    codes, n_images = numbered(used["group"].to_numpy())
    values, correct = used[score].to_numpy().astype(np.float64), used["correct"].to_numpy()
    strata = strata_of(used).to_numpy()
    parts = {
        WITHIN_STRATA: stratified_auroc(
            values, correct, codes, strata, n_images=n_images, folds=folds
        )
    }
    for name in sorted(set(strata.tolist())):
        here = strata == name
        parts[name] = clustered_auroc(
            values[here], correct[here], codes[here], n_images=n_images, name=name,
            folds=None if folds is None else folds[here],
        )  # fmt: skip
    return parts


def _gap(applied: ClusteredEstimate, own: ClusteredEstimate) -> ReportedEstimate | None:
    if not (applied.defined and own.defined):
        return None
    return ReportedEstimate.from_estimate(auroc_difference(applied, own))


def _reported(part: ClusteredEstimate) -> ReportedEstimate:
    return ReportedEstimate.from_estimate(auroc_estimate(part))

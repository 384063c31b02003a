"""How far bfloat16 is from float32: the same items through the same weights in both.

    python benchmarks/bf16.py                                        # the embedded models, minutes
    python benchmarks/bf16.py --random llava-1.5-7b --device cuda    # full size, random weights

Weights are read in float32 and rounded; nothing else differs. Reported for each model: the share of
items whose greedy answer is the same; differences of margins, H_s, attention maps and hidden states
(attention over the items whose answers are the same tokens: others were asked by other queries);
and the rank correlation of each signal over the items, since that is all an AUROC sees.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import full_size
import numpy as np
import torch
from extraction import in_batches, questions
from hardware import hardware
from judged import write_whole
from published_models import build_model
from scipy.stats import spearmanr

from vrp.planning.published_dimensions import published_checkpoint
from vrp.signals.structural import cluster_count_dbscan, renormalise, spatial_entropy
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import CaptureSpec, ItemCapture, run_batch
from vrp.vlm.loading import load_vlm
from vrp.vlm.model import VLM
from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint

RESULT = Path(__file__).parent / "results" / "bf16.json"
MAX_NEW_TOKENS = 6
POSITION = "prompt_end"


def answered(vlm: VLM, batches: Sequence[Sequence[VlmInput]]) -> list[ItemCapture]:
    spec = CaptureSpec.full((POSITION,))
    return [
        capture
        for batch in batches
        for capture in run_batch(vlm, batch, spec, max_new_tokens=MAX_NEW_TOKENS)
    ]


def round_weights(vlm: VLM) -> None:
    """Round the parameters to bfloat16 in place; rotary frequencies and the like stay as read."""
    for parameter in vlm.model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    vlm.model.config.dtype = torch.bfloat16


class Maps:
    """What is made of one item's attention."""

    def __init__(self, capture: ItemCapture) -> None:
        grid = (capture.grid_h, capture.grid_w)
        self.layers = renormalise(capture.attention).map
        self.average = self.layers.mean(axis=0)
        self.heads = renormalise(capture.head_rows).map
        self.head_entropy = spatial_entropy(self.heads)
        self.entropy = float(spatial_entropy(self.average))
        self.clusters = float(cluster_count_dbscan(self.average.reshape(grid)))
        self.head_clusters = cluster_count_dbscan(self.heads.reshape(*self.heads.shape[:-1], *grid))


SIGNALS: dict[str, Callable[[ItemCapture, Maps], float]] = {
    "spatial_entropy": lambda capture, maps: maps.entropy,
    "cluster_count_dbscan": lambda capture, maps: maps.clusters,
    "decision_margin": lambda capture, maps: capture.decision_margin,
    "token_confidence": lambda capture, maps: float(np.mean(capture.token_logprobs)),
    "first_token_entropy": lambda capture, maps: capture.first_token_entropy,
}


def differences(exact: Sequence[ItemCapture], rounded: Sequence[ItemCapture]) -> dict[str, Any]:
    """Compare captures in float32 with those in bfloat16, item by item."""
    pairs = list(zip(exact, rounded, strict=True))
    alike = [(a, b) for a, b in pairs if a.token_ids == b.token_ids and a.token_ids]
    maps = [(Maps(a), Maps(b)) for a, b in alike]
    return {
        "items": len(pairs),
        "same_answers": float(np.mean([a.token_ids == b.token_ids for a, b in pairs])),
        "tied_answers": float(np.mean([b.decision_margin == 0 for _, b in pairs])),
        "difference": {
            "decision_margin": spread(abs(a.decision_margin - b.decision_margin) for a, b in pairs),
            "lens_decision_margin": spread(np.abs(_lens(a) - _lens(b)) for a, b in pairs),
            "hidden_relative": spread(_relative(_hidden(a), _hidden(b)) for a, b in pairs),
            "map_total_variation": spread(_variation(a.layers, b.layers) for a, b in maps),
            "head_map_total_variation": spread(_variation(a.heads, b.heads) for a, b in maps),
            "spatial_entropy": spread(abs(a.entropy - b.entropy) for a, b in maps),
            "head_spatial_entropy": spread(
                np.abs(a.head_entropy - b.head_entropy) for a, b in maps
            ),
        },
        "same_head_cluster_counts": _share(a.head_clusters == b.head_clusters for a, b in maps),
        "rank_correlation": {
            name: _rank_correlation(
                [signal(a, made[0]) for (a, _), made in zip(alike, maps, strict=True)],
                [signal(b, made[1]) for (_, b), made in zip(alike, maps, strict=True)],
            )
            for name, signal in SIGNALS.items()
        },
    }


def spread(values: Iterable[Any]) -> dict[str, float] | None:
    """Median, 95th percentile and maximum over everything given; None where nothing is."""
    flat = [np.ravel(value) for value in values]
    if not flat:
        return None
    joined = np.concatenate(flat)
    median, p95 = np.percentile(joined, [50, 95])
    return {"median": float(median), "p95": float(p95), "most": float(joined.max())}


def _share(values: Iterable[np.ndarray]) -> float | None:
    flat = [np.ravel(value) for value in values]
    return float(np.concatenate(flat).mean()) if flat else None


def _variation(exact: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    """Total variation of each pair of maps: the mass that lies elsewhere."""
    return 0.5 * np.abs(exact - rounded).sum(axis=-1)


def _lens(capture: ItemCapture) -> np.ndarray:
    assert capture.lens_decision_margin is not None
    return capture.lens_decision_margin


def _hidden(capture: ItemCapture) -> np.ndarray:
    assert capture.hidden is not None
    return capture.hidden[POSITION]


def _relative(exact: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    """‖difference‖ / ‖exact‖ of each layer."""
    norm = np.linalg.norm
    return norm(exact - rounded, axis=-1) / norm(exact, axis=-1)


def _rank_correlation(exact: Sequence[float], rounded: Sequence[float]) -> float | None:
    """Spearman's; None where a signal does not vary."""
    if min(len(set(exact)), len(set(rounded))) < 2:
        return None
    return float(spearmanr(exact, rounded).statistic)


def of_embedded(family: str, options: argparse.Namespace) -> dict[str, Any]:
    vlm, rounded = (
        load_vlm(zoo_checkpoint(family), family=family, device=options.device, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    batches = in_batches(vlm, questions("study mix", options.items), options.batch_size)
    return differences(answered(vlm, batches), answered(rounded, batches))


def of_random(name: str, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    published = published_checkpoint(name)
    published = full_size.tiny(published) if options.tiny else published
    vlm = build_model(published, dtype="float32", device=options.device)
    items, size = full_size.questions(options.items), options.batch_size
    batches = [items[i : i + size] for i in range(0, len(items), size)]
    exact = answered(vlm, batches)
    round_weights(vlm)  # in place: two of full size would not fit
    return differences(exact, answered(vlm, batches))


def print_model(name: str, found: Mapping[str, Any]) -> None:
    print(
        f"\n{name}: {100 * found['same_answers']:.1f}% of {found['items']} answers the same, "
        f"{100 * found['tied_answers']:.1f}% tied in bfloat16"
    )
    for what, size in found["difference"].items():
        if size is not None:
            print(f"  |Δ| {what:26}{size['median']:9.2g}{size['p95']:9.2g}{size['most']:9.2g}")
    if found["same_head_cluster_counts"] is not None:
        print(f"  C_k of a head the same in {100 * found['same_head_cluster_counts']:.1f}%")
    for what, value in found["rank_correlation"].items():
        print(f"  rank correlation {what:22}{'does not vary' if value is None else f'{value:.4f}'}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="*", default=list(ZOO_FAMILIES))
    parser.add_argument("--random", nargs="*", help="published architectures, in their place")
    parser.add_argument("--tiny", action="store_true", help="small sizes of --random, for a trial")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--items", type=int, default=384)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    made = of_random if options.random else of_embedded
    result: dict[str, Any] = {"models": {}}
    print(f"{'':32}{'median':>9}{'95%':>9}{'most':>9}")
    for name in options.random or options.families:
        result["models"][name] = made(name, options)
        print_model(name, result["models"][name])
    result["settings"] = {k: v for k, v in vars(options).items() if k != "out"}
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    packages = ("torch", "transformers", "numpy", "scipy")
    result["hardware"] = {**hardware(*packages), "accelerator": accelerator}
    write_whole(options.out, result)


if __name__ == "__main__":
    main()

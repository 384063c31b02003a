"""What interventions cost, in bare passes over the items, on the CPU.

    python benchmarks/interventions.py

A bare pass answers every item with a whole prompt of its own, each image encoded once and nothing
captured. `masking` hides a share of the image tokens of each item, at random, by attention;
`plain masking` is the same by a full forward under a mask. `ablation` sweeps conditions spread over
the last quarter of the layers, from one shared trunk, `half the ablations` the first half of them;
`plain ablation` runs each as a whole forward with a hook. `knockouts` blocks the last token's
attention to image or question in every window of layers, `plain knockouts` by whole forwards under
a mask. All is measured in one run, in rounds that take the contestants in turn; images are
encoded once for all conditions. Both ways must give the same answers.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extraction import MIXES, in_batches, questions
from hardware import hardware
from judged import Goal, Spread, in_rounds, ratio_of, write_whole

from vrp.interventions.tracing import KNOCKOUT_IMAGE, KNOCKOUT_TEXT, trace_conditions
from vrp.signals.structural import token_count
from vrp.stats.bootstrap import seed_from
from vrp.vlm.attention_tap import AttentionTap, active
from vrp.vlm.batched_edits import Trunk
from vrp.vlm.decode import ItemCapture, Prepared, prepare, run_batch
from vrp.vlm.image_edits import AttentionMask
from vrp.vlm.loading import load_vlm
from vrp.vlm.prefill import Decoder
from vrp.vlm.residual_edits import NeuronEdit
from vrp.vlm.tracing import Knockout, LastToken
from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint

RESULT = Path(__file__).parent / "results" / "interventions.json"
MAX_NEW_TOKENS = 6
SHARES = (0.3, 0.5, 0.9)
N_ABLATIONS = 40
EVERY = 8  # so many of them are run plainly: each is a whole pass
GOALS = {
    "masking 30% / bare": Goal(0.85),
    "masking 90% / bare": Goal(0.35),
    "ablation / bare": Goal(6.5),
}
"""For LLaVA, whose images are 144 tokens."""


class Contest:
    """One family's contestants on one list of items."""

    def __init__(self, family: str, options: argparse.Namespace) -> None:
        self.vlm = load_vlm(zoo_checkpoint(family), family=family, device="cpu")
        self.batches = in_batches(self.vlm, questions(MIXES[1], options.items), options.batch_size)
        self.conditions = options.conditions

    @contextmanager
    def whole_prompts(self) -> Iterator[None]:
        """Within the block nothing is shared or left out, as in usual practice."""
        family = self.vlm.family
        family.shares_prefixes = family.drops_tokens = lambda model: False  # type: ignore[method-assign]
        try:
            yield
        finally:
            del family.shares_prefixes, family.drops_tokens

    def bare(self) -> list[Any]:
        with self.whole_prompts():
            return [run_batch(self.vlm, b, max_new_tokens=MAX_NEW_TOKENS) for b in self.batches]

    def _mask(self, prepared: Prepared, share: float, repeat: int) -> AttentionMask:
        keep = []
        for item, grid in zip(prepared.inputs, prepared.grids, strict=True):
            random = np.random.default_rng(seed_from(0, item.item_id, repeat))
            hidden = random.permutation(grid.n_tokens)[: token_count(grid.n_tokens, share)]
            keep.append(~np.isin(np.arange(grid.n_tokens), hidden))
        return AttentionMask(keep)

    def masking(self, share: float) -> list[list[ItemCapture]]:
        """Each condition's answers, batch by batch."""
        found = []
        for batch in self.batches:
            prepared = prepare(self.vlm, batch)
            for repeat in range(self.conditions):
                mask = self._mask(prepared, share, repeat)
                found.append(
                    run_batch(self.vlm, prepared, max_new_tokens=MAX_NEW_TOKENS, mask=mask)
                )
        return found

    def plain_masking(self, share: float) -> list[list[ItemCapture]]:
        with self.whole_prompts():
            return self.masking(share)

    def edits(self) -> list[NeuronEdit]:
        """Five neurons each, in the last quarter of the layers."""
        n_layers = self.vlm.n_layers
        first = n_layers - max(1, n_layers // 4)
        return [
            NeuronEdit(
                first + index % (n_layers - first),
                np.random.default_rng(index).permutation(self.vlm.d_model)[:5],
            )
            for index in range(N_ABLATIONS)
        ]

    def ablation(self, edits: Sequence[NeuronEdit] | None = None) -> list[list[ItemCapture]]:
        found, edits = [], self.edits() if edits is None else edits
        for batch in self.batches:
            prepared = prepare(self.vlm, batch)
            trunk = Trunk(self.vlm, prepared, edits)
            for edit in edits:
                with trunk.under(edit):
                    found.append(
                        run_batch(self.vlm, prepared, max_new_tokens=MAX_NEW_TOKENS, edits=[edit])
                    )
        return found

    def plain_ablation(self) -> list[list[ItemCapture]]:
        found = []
        with self.whole_prompts():
            for batch in self.batches:
                prepared = prepare(self.vlm, batch)
                found += [
                    run_batch(self.vlm, prepared, max_new_tokens=MAX_NEW_TOKENS, edits=[edit])
                    for edit in self.edits()[::EVERY]
                ]
        return found

    def knockout_edits(self) -> list[Knockout]:
        return [
            Knockout(one.layer, one.last_layer, "image" if one.kind == KNOCKOUT_IMAGE else "text")
            for one in trace_conditions(None, self.vlm.n_layers)
            if one.kind in (KNOCKOUT_IMAGE, KNOCKOUT_TEXT)
        ]

    def knockouts(self) -> list[torch.Tensor]:
        found, edits = [], self.knockout_edits()
        for batch in self.batches:
            last = LastToken(self.vlm, prepare(self.vlm, batch), edits)
            found += [last.under(edit) for edit in edits]
        return found

    def plain_knockouts(self) -> list[torch.Tensor]:
        found = []
        with self.whole_prompts(), torch.inference_mode():
            for batch in self.batches:
                prepared = prepare(self.vlm, batch)
                for edit in self.knockout_edits():
                    block = edit.block(self.vlm, prepared)
                    tap = AttentionTap(
                        prepared.image_index, n_layers=self.vlm.n_layers, collect=False, block=block
                    )
                    with active(tap):
                        found.append(Decoder(self.vlm, prepared).prefill())
        return found

    def contestants(self) -> dict[str, Callable[[], object]]:
        found: dict[str, Callable[[], object]] = {"bare": self.bare}
        found |= {f"masking {share:.0%}": partial(self.masking, share) for share in SHARES}
        found["plain masking 30%"] = partial(self.plain_masking, 0.3)
        found |= {"ablation": self.ablation, "plain ablation": self.plain_ablation}
        found["half the ablations"] = partial(self.ablation, self.edits()[: N_ABLATIONS // 2])
        return found | {"knockouts": self.knockouts, "plain knockouts": self.plain_knockouts}

    def check_same_answers(self) -> int:
        """Answers by either way must be the same tokens; returns how many were compared."""
        pairs = [(self.masking(share), self.plain_masking(share)) for share in SHARES]
        some = [one for i, one in enumerate(self.ablation()) if i % N_ABLATIONS % EVERY == 0]
        pairs.append((some, self.plain_ablation()))
        compared = 0
        for one_way, other_way in pairs:
            for one, other in zip(one_way, other_way, strict=True):
                for a, b in zip(one, other, strict=True):
                    if a.token_ids != b.token_ids and not a.close_choices:
                        raise SystemExit(f"{a.item_id}: {a.token_ids} and {b.token_ids}")
                    compared += 1
        for one, other in zip(self.knockouts(), self.plain_knockouts(), strict=True):
            if not torch.allclose(one, other, atol=1e-3):
                raise SystemExit(f"knockouts: logits differ by {(one - other).abs().max():.2g}")
            compared += len(one)
        return compared


def measure(family: str, options: argparse.Namespace) -> dict[str, Any]:
    contest = Contest(family, options)
    compared = contest.check_same_answers()
    times = in_rounds(contest.contestants(), options.rounds)
    # The sweep is of all its conditions, everything else of one condition.
    conditions = dict.fromkeys(times, options.conditions) | {
        "bare": 1, "ablation": 1, "half the ablations": 1, "plain ablation": 1 / EVERY,
        "knockouts": 1, "plain knockouts": 1,
    }  # fmt: skip
    each = {name: [one / conditions[name] for one in spent] for name, spent in times.items()}
    ratios = {f"{name} / bare": ratio_of(each, name, "bare") for name in each if name != "bare"}
    ratios["half the ablations / ablation"] = ratio_of(each, "half the ablations", "ablation")
    n_items = sum(map(len, contest.batches))
    goals = GOALS if family == "llava" else {}
    return {
        "items": n_items,
        "answers_compared": compared,
        "knockouts": len(contest.knockout_edits()),
        "bare_ms_an_item": Spread.of(1000 * one / n_items for one in times["bare"])._asdict(),
        "ratios": {name: ratio.judged(goals.get(name)) for name, ratio in ratios.items()},
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--families", nargs="+", default=list(ZOO_FAMILIES))
    parser.add_argument("--items", type=int, default=96, help="items a round")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--conditions", type=int, default=5, help="of each share, a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    result: dict[str, Any] = {
        "hardware": hardware("torch", "transformers"),
        "settings": settings | {"ablations": N_ABLATIONS},
        "families": {},
    }
    for family in options.families:
        result["families"][family] = measure(family, options)
        print(family, json.dumps(result["families"][family], indent=1))
        write_whole(options.out, result)


if __name__ == "__main__":
    main()

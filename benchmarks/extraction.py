"""The extraction engine against plain `generate` and against usual practice, on the CPU.

    python benchmarks/extraction.py

Everything is measured in one run, in rounds that take the contestants in turn, so that a machine
that slows down favours none; a ratio is the median of the rounds' ratios, and is recorded with the
least and the most. `limit` is plain `generate` on the same batches with nothing captured, `usual`
is eager attention with full maps and hidden states at batch 1 and K separate `generate` calls; both
include preprocessing, as the engine does. `capture` reads everything, H_s and C_k of every map
included; `usual / engine` compares what usual practice reads (answers, attention, hidden states, K
samples), and once more everything. Each image is asked once in `one question an image`; in
`study mix` images have as many questions as in the study, which the engine encodes once and
`generate` once a question.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from baselines import Asked, PlainModel
from hardware import hardware
from judged import Goal, Spread, in_rounds, ratio_of, seconds, write_whole
from PIL import Image

from vrp.data.scenes.draw import Purpose, draw_scene, scene_rng, scene_seed
from vrp.data.scenes.questions import (
    counting_questions,
    existence_question,
    open_questions,
    spatial_questions,
)
from vrp.running.attention_rows import attention_rows
from vrp.running.equal_inputs import alike
from vrp.stages.p_true import JUDGEMENT
from vrp.vlm.answer_distribution import sample_answers
from vrp.vlm.batching import GivenAnswer, VlmInput, plan_batches, plan_inputs
from vrp.vlm.decode import CaptureSpec, run_batch
from vrp.vlm.loading import load_vlm
from vrp.vlm.model import VLM
from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint

RESULT = Path(__file__).parent / "results" / "extraction.json"
MAX_NEW_TOKENS = 6
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": MAX_NEW_TOKENS, "seed": 0}
K = 10
FLOOR = 1e-3
GREY = (128, 128, 128)


GOALS = {
    "capture / limit": Goal(1.2),
    "K=10 / one answer": Goal(1.4),
    "exact / one answer": Goal(1.3),
    "usual / engine": Goal(10.0, at_least=True),
    "memory, capture / limit": Goal(1.15),
}
MIXES = ("one question an image", "study mix")
SHARED_GOALS = {
    "capture / limit": Goal(0.5),
    "K=10 and exact / limit": Goal(0.5),
    "blind / limit": Goal(0.25),
}
"""Where the questions of one image share a prefill: in causal families, in the study's mix."""


def questions(mix: str, n_items: int) -> list[VlmInput]:
    """Questions about scenes that no model was trained on."""
    items: list[VlmInput] = []
    for index in count():
        scene = draw_scene(scene_seed("benchmark", index))
        rng = scene_rng(scene.seed, Purpose.QUESTIONS)
        present = sorted({found.category for found in scene.objects})
        asked = [existence_question(category) for category in present[:3]]
        for make in (counting_questions, spatial_questions, open_questions):
            asked += [question.text for question in make(scene, rng)[:1]]
        if mix == MIXES[0]:
            asked = [asked[index % len(asked)]]
        items += [
            VlmInput(f"{index}-{n}", scene.image, text, image_key=str(index))
            for n, text in enumerate(asked)
        ]
        if len(items) >= n_items:
            return items[:n_items]
    raise AssertionError


def in_batches(vlm: VLM, items: Sequence[VlmInput], size: int) -> list[list[VlmInput]]:
    """The batches that the study would plan."""
    rows = [(item.item_id, item.question, item.image.size, item.image_key) for item in items]
    by_id = {item.item_id: item for item in items}
    plan = plan_batches(plan_inputs(vlm, rows), batch_size=size)
    return [[by_id[item_id] for item_id in ids] for ids in plan]


@contextmanager
def counted_forwards(model: Any) -> Iterator[dict[str, int]]:
    """Count rows that go through the language model: prompts, and decode steps."""
    counts = {"prefill": 0, "step": 0}
    forward = model.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        ids = kwargs["input_ids"]
        counts["step" if ids.shape[1] == 1 else "prefill"] += len(ids)
        return forward(*args, **kwargs)

    model.forward = counting
    try:
        yield counts
    finally:
        del model.forward


class Contest:
    """One family's contestants on one list of items."""

    def __init__(self, family: str, mix: str, options: argparse.Namespace) -> None:
        folder = zoo_checkpoint(family)
        self.vlm = load_vlm(folder, family=family, device="cpu")
        self.plain = PlainModel(family, folder, attention="sdpa")
        self.eager = PlainModel(family, folder, attention="eager")
        self.items = questions(mix, options.items)
        self.batch_size = options.batch_size
        self.batches = in_batches(self.vlm, self.items, self.batch_size)
        self.usual_items = self.items[:: max(1, len(self.items) // options.usual_items)]
        self.usual_items = self.usual_items[: options.usual_items]

    def engine(self, **spec: Any) -> Callable[[], list[Any]]:
        return lambda: [
            run_batch(self.vlm, batch, CaptureSpec(**spec), max_new_tokens=MAX_NEW_TOKENS)
            for batch in self.batches
        ]

    def full(self, *hidden: str) -> Callable[[], list[Any]]:
        """Everything that extraction stores, H_s and C_k of every map computed."""

        def work() -> list[Any]:
            spec, found = CaptureSpec.full(hidden or ("prompt_end",)), []
            for batch in self.batches:
                captures = run_batch(self.vlm, batch, spec, max_new_tokens=MAX_NEW_TOKENS)
                attention_rows(captures)
                found += captures
            return found

        return work

    def samples(self, **what: Any) -> Callable[[], list[Any]]:
        return lambda: [sample_answers(self.vlm, b, **SAMPLING, **what) for b in self.batches]

    def blind(self) -> Callable[[], list[Any]]:
        """A grey image of the same size, and the answer to the image scored without it.

        As in the stage, questions that are alike without their images are run once.
        """
        spec = CaptureSpec(first_tokens=True)
        grey: dict[str, VlmInput] = {}
        given: dict[str, GivenAnswer] = {}
        for batch in self.batches:
            captures = run_batch(self.vlm, batch, spec, max_new_tokens=MAX_NEW_TOKENS)
            for item, capture in zip(batch, captures, strict=True):
                given[item.item_id] = GivenAnswer(capture.token_ids, tuple(capture.first_token_ids))
                grey[item.item_id] = item._replace(
                    image=Image.new("RGB", item.image.size, GREY),
                    image_key=f"grey {item.image.size}",
                )
        shown = {item_id: (item.question, item.image.size) for item_id, item in grey.items()}
        asked = [
            grey[item_id]._replace(given=run.scored) for item_id, run in alike(shown, given).items()
        ]
        batches = in_batches(self.vlm, asked, self.batch_size)
        return lambda: [run_batch(self.vlm, b, max_new_tokens=MAX_NEW_TOKENS) for b in batches]

    def judgements(self) -> Callable[[], list[Any]]:
        """One more question about the same image, of one token."""
        batches = [
            [
                item._replace(question=JUDGEMENT.format(question=item.question, answer="yes"))
                for item in batch
            ]
            for batch in self.batches
        ]
        return lambda: [run_batch(self.vlm, batch, max_new_tokens=1) for batch in batches]

    def limit(self) -> list[Any]:
        return [
            self.plain.answer(
                [Asked(item.image, item.question) for item in batch], max_new_tokens=MAX_NEW_TOKENS
            )
            for batch in self.batches
        ]

    def usual(self) -> None:
        """Few items suffice, each costs eleven inferences."""
        for item in self.usual_items:
            self.eager.study_one(
                Asked(item.image, item.question), k=K, max_new_tokens=MAX_NEW_TOKENS
            )

    def check_same_answers(self) -> int:
        """Greedy answers of engine and limit must be the same tokens; returns how many are."""
        eos = set(self.vlm.eos_token_ids)
        same = 0
        answers = [tokens for batch in self.limit() for tokens in batch]
        for tokens, capture in zip(answers, self.full()(), strict=True):
            kept = list(takewhile(lambda token: token not in eos, tokens))
            same += kept == list(capture.token_ids)
        return same

    def contestants(self) -> dict[str, Callable[[], object]]:
        return {
            "limit": self.limit,
            "answers": self.engine(),
            "attention_and_hidden": self.engine(attention=True, hidden=("prompt_end",)),
            "capture": self.full(),
            "capture_and_answer_end": self.full("prompt_end", "answer_end"),
            "k10": self.samples(k=K),
            "exact": self.samples(floor=FLOOR),
            "k10_and_exact": self.samples(k=K, floor=FLOOR),
            "blind": self.blind(),
            "usual": self.usual,
        }

    def n_items(self, contestant: str) -> int:
        """Questions that a contestant answers in one turn."""
        return len(self.usual_items if contestant == "usual" else self.items)

    def parts(self) -> dict[str, Callable[[], object]]:
        """Each thing that can be captured, alone, beside nothing captured."""
        return {
            "answers": self.engine(),
            "attention": self.engine(attention=True),
            "heads": self.engine(attention=True, head_rows=True),
            "hidden": self.engine(hidden=("prompt_end",)),
            "answer_end": self.engine(hidden=("answer_end",)),
            "lens": self.engine(lens=True),
            "contributions": self.engine(contributions=True),
            "residual_update": self.engine(residual_update=True),
            "k10": self.samples(k=K),
            "exact": self.samples(floor=FLOOR),
            "blind": self.blind(),
            "p_true": self.judgements(),
        }


def measure(family: str, mix: str, options: argparse.Namespace) -> dict[str, Any]:
    contest = Contest(family, mix, options)
    same = contest.check_same_answers()
    ms = {
        name: [1000 * seconds / contest.n_items(name) for seconds in spent]
        for name, spent in in_rounds(contest.contestants(), options.rounds).items()
    }

    ratios = {
        "capture / limit": ratio_of(ms, "capture", "limit"),
        "capture with answer_end / limit": ratio_of(ms, "capture_and_answer_end", "limit"),
        "K=10 / one answer": ratio_of(ms, "k10", "answers"),
        "exact / one answer": ratio_of(ms, "exact", "answers"),
        "K=10 and exact / one answer": ratio_of(ms, "k10_and_exact", "answers"),
        "one answer / limit": ratio_of(ms, "answers", "limit"),
        "K=10 and exact / limit": ratio_of(ms, "k10_and_exact", "limit"),
        "blind / limit": ratio_of(ms, "blind", "limit"),
        "usual / engine": ratio_of(ms, "usual", "attention_and_hidden", "k10"),
        "usual / engine reading everything": ratio_of(ms, "usual", "capture", "k10_and_exact"),
    }
    shares = mix == MIXES[1] and contest.vlm.family.shares_prefixes(contest.vlm.model)
    goals = GOALS | SHARED_GOALS if shares else GOALS
    return {
        "items": len(contest.items),
        "same_greedy_answers": same,
        "ms_an_item": {name: Spread.of(spent)._asdict() for name, spent in ms.items()},
        "ratios": {name: spread.judged(goals.get(name)) for name, spread in ratios.items()},
    }


WHOLE = (
    "answers",
    "k10",
    "exact",
    "blind",
    "p_true",
)  # what answers by itself, with a prefill of its own


def costs(family: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each captured thing costs: ms an item, prompts and steps an item.

    What answers by itself is counted whole, the rest beyond the answer; a cost within the noise of
    its rounds may come out below zero, and is left so.
    """
    contest = Contest(family, MIXES[1], options)
    parts, n_items = contest.parts(), len(contest.items)
    times = in_rounds(parts, options.rounds)
    found, counted = {}, {}
    for name, work in parts.items():
        with counted_forwards(contest.vlm.model) as forwards:
            work()
        counted[name] = {kind: rows / n_items for kind, rows in forwards.items()}
        less = 0 if name in WHOLE else 1
        extra = [a - less * b for a, b in zip(times[name], times["answers"], strict=True)]
        found[name] = {
            **_ms(extra, n_items),
            "prefills": counted[name]["prefill"] - less * counted["answers"]["prefill"],
            "steps": counted[name]["step"] - less * counted["answers"]["step"],
        }
    captures = contest.full()()
    spent = [seconds(lambda: attention_rows(captures)) for _ in range(options.rounds)]
    found["maps"] = {**_ms(spent, n_items), "prefills": 0.0, "steps": 0.0}
    return found


def _ms(spent: Iterable[float], n_items: int) -> dict[str, float]:
    spread = Spread.of(1000 * value / n_items for value in spent)
    return {"ms_an_item": spread.median, "least": spread.least, "most": spread.most}


# Memory: each number comes from a process of its own.


def long_question(vlm: VLM, n_tokens: int, size: tuple[int, int]) -> str:
    """A question whose whole prompt has about `n_tokens` tokens."""
    words = ["Is there a red circle to the left of the blue square?"]

    def length() -> int:
        return len(vlm.prompt_token_ids(" ".join(words))) - 1 + vlm.grid(size).n_tokens

    one = length()
    words.append("there")
    step = max(1, length() - one)
    words += ["there"] * max(0, (n_tokens - length()) // step)
    return " ".join(words)


def resident(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def peak_above_model(family: str, who: str, n_tokens: int, batch_size: int) -> dict[str, int]:
    """Bytes resident at most during one batch, above those before it."""
    folder = zoo_checkpoint(family)
    vlm = load_vlm(folder, family=family, device="cpu")
    scene = draw_scene(scene_seed("benchmark", 0))
    plain = PlainModel(family, folder, attention="sdpa") if who == "limit" else None
    for model in (vlm.model, plain.model if plain else vlm.model):
        model.config.get_text_config().max_position_embeddings = 4 * n_tokens
    question = long_question(vlm, n_tokens, scene.image.size)
    # Copies are different images to the engine: both encode as many.
    images = [scene.image.copy() for _ in range(batch_size)]
    if plain:
        del vlm

    def work(text: str) -> None:
        if plain:
            plain.answer([Asked(image, text) for image in images], max_new_tokens=2)
        else:
            items = [VlmInput(str(i), image, text) for i, image in enumerate(images)]
            run_batch(vlm, items, CaptureSpec.full(), max_new_tokens=2)

    work("Is there a dog?")
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    work(question)
    return {"bytes": resident("VmHWM") - before}


def memory(family: str, options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for n_tokens in (512, 2048):
        sizes = {}
        for who in ("limit", "capture"):
            command = [sys.executable, __file__, "--memory-of", who, "--families", family]
            command += ["--tokens", str(n_tokens), "--memory-batch", str(options.memory_batch)]
            # Freed blocks go back to the system at once, so that the peak is what is in use.
            environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
            done = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            sizes[who] = json.loads(done.stdout.splitlines()[-1])["bytes"]
        ratio = sizes["capture"] / sizes["limit"]
        verdict = GOALS["memory, capture / limit"].verdict(ratio)
        found[f"T={n_tokens}"] = {**sizes, "ratio": ratio, **verdict}
    return found


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", default=list(ZOO_FAMILIES))
    parser.add_argument("--items", type=int, default=192, help="items a round")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--usual-items", type=int, default=12, help="items of usual practice")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory-batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--memory-of", choices=["limit", "capture"], help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, default=512, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        [family] = options.families
        print(
            json.dumps(
                peak_above_model(family, options.memory_of, options.tokens, options.memory_batch)
            )
        )
        return
    result: dict[str, Any] = {"families": {}}
    for family in options.families:
        found: dict[str, Any] = {mix: measure(family, mix, options) for mix in MIXES}
        found["memory"] = memory(family, options)
        found["costs"] = costs(family, options)
        result["families"][family] = found
        print_family(family, found)
    result["settings"] = {
        name: value
        for name, value in vars(options).items()
        if name not in ("out", "memory_of", "tokens")
    }
    result["hardware"] = hardware("torch", "transformers", "numpy")
    write_whole(options.out, result)


def print_family(family: str, found: Mapping[str, Any]) -> None:
    print(f"\n{family}")
    print(f"  {'':34}" + "".join(f"{mix:>30}" for mix in MIXES) + f"{'goal':>10}")
    for name in found[MIXES[0]]["ratios"]:
        cells = "".join(_cell(found[mix]["ratios"][name]) for mix in MIXES)
        print(f"  {name:34}{cells}{GOALS.get(name, '')!s:>10}")
    for name in found[MIXES[0]]["ms_an_item"]:
        cells = "".join(_cell(found[mix]["ms_an_item"][name]) for mix in MIXES)
        print(f"  {'ms an item: ' + name:34}{cells}")
    for mix in MIXES:
        same, n_items = found[mix]["same_greedy_answers"], found[mix]["items"]
        print(f"  greedy answers as plain generate's, {mix}: {same} of {n_items}")
    for tokens, sizes in found["memory"].items():
        print(f"  memory above the model, {tokens}: {sizes['ratio']:.3f} of the limit's")
    for name, cost in found["costs"].items():
        print(
            f"  cost of {name:18}{cost['ms_an_item']:8.2f} ms [{cost['least']:.2f}, "
            f"{cost['most']:.2f}], {cost['prefills']:.2f} prefills, {cost['steps']:.2f} steps"
        )


def _cell(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.2f} [{spread['least']:.2f}, {spread['most']:.2f}]".rjust(30)


if __name__ == "__main__":
    main()

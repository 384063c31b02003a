"""The engine on the three checkpoints' architectures at full size, with random bf16 weights.

    python benchmarks/full_size.py                                            # one GPU, ten minutes
    python benchmarks/full_size.py --tiny --device cpu --dtype float32 --items 4  # a trial

For each architecture: items per second of plain `generate` with nothing captured (`limit`), of full
capture, of K=10 samples with the exact distribution, and of usual practice (eager attention with
full maps and hidden states at batch 1, K separate `generate` calls); the share of the measured
matrix-product limit; the peak memory of each. `capture` reads everything that extraction stores,
H_s and C_k of every head's map included, whose tables are made beside the next batch as in
`vrp extract`; `maps` is what they take by themselves. Contestants take turns; a ratio is the median
of the rounds' ratios, recorded with the least and the most, and judged where there is a goal.

Random weights hardly ever end an answer or agree with themselves: answers have the longest length
and K samples share no beginning, which is the worst case for them, but hardly any beginning reaches
the exact distribution's floor, which costs little here. Images are 640×480 noise, all different.
"""

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import hardware
from judged import Goal, Spread, in_rounds, ratio_of, write_whole
from PIL import Image
from published_models import build_model

from vrp.config.sample import ScoringConfig
from vrp.data.item import EXISTENCE, Item
from vrp.planning.compute import item_flops
from vrp.planning.published_dimensions import (
    PublishedCheckpoint,
    measure_published,
    published_checkpoint,
)
from vrp.running.attention_rows import attention_rows
from vrp.running.captured_rows import answer_rows, hidden_rows, lens_rows
from vrp.vlm.answer_distribution import sample_answers
from vrp.vlm.attention_tap import ATTENTION_NAME
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import CaptureSpec, ItemCapture, prepare, run_batch
from vrp.vlm.model import VLM

RESULT = Path(__file__).parent / "results" / "full_size.json"
CONTESTANTS = ("limit", "capture", "consistency", "usual")
NAMES = ("llava-1.5-7b", "paligemma-3b-mix-224", "qwen2-vl-7b-instruct")
STUDY_ITEMS = 3090
K = 10
QUESTION = "Is there a dining table to the left of the person in the image?"
GOALS = {
    "capture / limit": Goal(1.10),
    "usual / engine": Goal(25.0, at_least=True),
    "minutes for the study": Goal(15.0),
}
# Sizes of a trial: everything narrow and short, all token ids within a small vocabulary.
TINY: dict[str, Any] = {
    "vocab_size": 1024, "image_token_index": 1000, "image_token_id": 1000, "video_token_id": 1001,
    "vision_start_token_id": 1002, "vision_end_token_id": 1003, "bos_token_id": 2,
    "eos_token_id": 1, "pad_token_id": 0, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "projection_dim": 64, "depth": 2, "embed_dim": 32, "mlp_ratio": 2, "num_heads": 2,
    "mrope_section": [2, 3, 3], "image_size": 56, "image_seq_length": 16, "shortest_edge": 56,
    "height": 56, "width": 56, "max_pixels": 28 * 28 * 20,
}  # fmt: skip


def questions(n_items: int) -> list[VlmInput]:
    """One question about each of `n_items` images of noise."""
    rng = np.random.default_rng(0)
    items = []
    for index in range(n_items):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        items.append(VlmInput(str(index), image, QUESTION))
    return items


def question_of_noise(item_id: str) -> Item:
    """The item that is stored with a question of `questions`."""
    return Item(
        item_id=item_id, dataset="noise", split="none", task=EXISTENCE, group=item_id, image="",
        image_sha256="", question_id=item_id, question=QUESTION, answers=["no"], reference="no",
    )  # fmt: skip


def tiny(published: PublishedCheckpoint) -> PublishedCheckpoint:
    """The same classes with small sizes, for a trial on a small machine."""
    config = _with_tiny_sizes(published.config)
    processor = _with_tiny_sizes(published.image_processor)
    parts = {"source": published.checkpoint, "config": config, "preprocessor_config": processor}
    dimensions = measure_published({**parts, "family": published.family, "n_frame_tokens": 0})
    return published._replace(config=config, image_processor=processor, dimensions=dimensions)


def _with_tiny_sizes(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _with_tiny_sizes(value) if isinstance(value, dict) else TINY.get(name, value)
        for name, value in copy.deepcopy(fields).items()
    }


class Contest:
    """One architecture with its contestants."""

    def __init__(self, vlm: VLM, options: argparse.Namespace) -> None:
        self.vlm, self.options = vlm, options
        self.items = questions(options.items)
        size = options.batch_size
        self.batches = [self.items[i : i + size] for i in range(0, len(self.items), size)]
        self.n_new = options.new_tokens
        # Nothing ends an answer of plain `generate`, so all are as long as they may be.
        vlm.model.generation_config.eos_token_id = None

    def _plain_inputs(self, batch: Sequence[VlmInput]) -> dict[str, Any]:
        """What `generate` takes: expanded prompts and pixels, as a processor would make them."""
        input_ids, attention_mask = self._tokens(batch)
        pixels = self.vlm.family.process_images([item.image for item in batch])
        moved = {
            key: value.to(self.vlm.device, self.vlm.model.dtype)
            if value.is_floating_point()
            else value.to(self.vlm.device)
            for key, value in pixels.items()
        }
        more: dict[str, Any] = dict(self.vlm.family.prefill_inputs(input_ids))
        if self.vlm.family.name == "qwen2_vl":
            more["mm_token_type_ids"] = (input_ids == self.vlm.image_token_id).int()
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            **moved,
            **more,
        }

    def _tokens(self, batch: Sequence[VlmInput]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts with their placeholders expanded; all of one length, so nothing is padded."""
        rows = []
        for item in batch:
            row = self.vlm.prompt_token_ids(item.question)
            at, image = row.index(self.vlm.image_token_id), self.vlm.image_token_id
            grid = self.vlm.grid(item.image.size)
            rows.append(row[:at] + [image] * grid.n_tokens + row[at + 1 :])
        ids = torch.tensor(rows, device=self.vlm.device)
        return ids, torch.ones_like(ids)

    @torch.inference_mode()
    def _generate(self, inputs: dict[str, Any], **how: Any) -> Any:
        return self.vlm.model.generate(**inputs, max_new_tokens=self.n_new, pad_token_id=0, **how)

    def limit(self) -> list[list[int]]:
        """Greedy answers of plain `generate`, in batches."""
        self.vlm.model.set_attn_implementation("sdpa")
        found = []
        try:
            for batch in self.batches:
                inputs = self._plain_inputs(batch)
                tokens = self._generate(inputs, do_sample=False)
                found += tokens[:, inputs["input_ids"].shape[1] :].tolist()
        finally:
            self.vlm.model.set_attn_implementation({"text_config": ATTENTION_NAME})
        return found

    def capture(self) -> list[ItemCapture]:
        """Everything that extraction stores; tables are made beside the next batch."""
        found, tables = [], []
        with ThreadPoolExecutor(max_workers=1) as aside:
            for batch in self.batches:
                captures = run_batch(self.vlm, batch, CaptureSpec.full(), max_new_tokens=self.n_new)
                tables.append(aside.submit(tabulated, captures))
                found += captures
        for table in tables:
            table.result()
        return found

    def same_answers(self) -> int:
        """How many greedy answers of engine and limit are the same tokens, as far as both go."""
        eos = set(self.vlm.eos_token_ids)
        return sum(
            list(takewhile(lambda token: token not in eos, tokens)) == list(capture.token_ids)
            for tokens, capture in zip(self.limit(), self.capture(), strict=True)
        )

    def consistency(self) -> None:
        for batch in self.batches:
            sample_answers(
                self.vlm, batch, k=K, floor=1e-3,
                temperature=0.7, top_p=0.9, max_new_tokens=self.n_new, seed=0,
            )  # fmt: skip

    def usual(self) -> None:
        self.vlm.model.set_attn_implementation("eager")
        sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 0}
        try:
            for item in self.items[: self.options.usual_items]:
                inputs = self._plain_inputs([item])
                self._generate(
                    inputs, do_sample=False, return_dict_in_generate=True,
                    output_attentions=True, output_hidden_states=True,
                )  # fmt: skip
                for _ in range(K):
                    self._generate(inputs, **sampling)
        finally:
            self.vlm.model.set_attn_implementation({"text_config": ATTENTION_NAME})


def tabulated(captures: Sequence[ItemCapture]) -> list[Any]:
    """The tables that extraction makes of a batch's captures."""
    asked = {capture.item_id: question_of_noise(capture.item_id) for capture in captures}
    return [
        answer_rows(captures, asked, ScoringConfig()),
        attention_rows(captures),
        hidden_rows(captures, dtype="float16"),
        lens_rows(captures, asked),
    ]


def synchronised(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Stopwatch:
    """Seconds of a contestant, and the most memory that it took above what was held before."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.above_model: dict[str, int] = {}

    def measured(self, name: str, work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            held = 0
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
                held = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
            work()
            if self.device.type == "cuda":
                above = torch.cuda.max_memory_allocated() - held
                self.above_model[name] = max(above, self.above_model.get(name, 0))

        return run

    def seconds(self, work: Callable[[], object]) -> float:
        begun = synchronised(self.device)
        work()
        return synchronised(self.device) - begun


def matrix_limit(device: torch.device, dtype: torch.dtype) -> float:
    """Measured operations per second of one large matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    begun, repeats = synchronised(device), 20
    for _ in range(repeats):
        a @ b
    return repeats * 2 * side**3 / (synchronised(device) - begun)


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    torch.manual_seed(0)
    published = published_checkpoint(name)
    if options.tiny:
        published = tiny(published)
    vlm = build_model(published, dtype=options.dtype, device=options.device)
    contest, watch = Contest(vlm, options), Stopwatch(device)
    n_items = dict.fromkeys(CONTESTANTS, options.items) | {"usual": options.usual_items}
    times = in_rounds(
        {who: watch.measured(who, getattr(contest, who)) for who in CONTESTANTS},
        options.rounds,
        timed=watch.seconds,
    )
    ms = {who: [1000 * t / n_items[who] for t in spent] for who, spent in times.items()}
    captures = contest.capture()
    maps = [1000 * watch.seconds(lambda: attention_rows(captures)) / options.items for _ in "123"]
    ratios = {
        "capture / limit": ratio_of(ms, "capture", "limit"),
        "usual / engine": ratio_of(ms, "usual", "capture", "consistency"),
    }
    prepared = prepare(vlm, contest.items[:1])
    flops = sum(
        item_flops(
            published.dimensions,
            n_image_tokens=prepared.grids[0].n_tokens,
            n_tokens=prepared.prompt_lengths[0],
            n_answer_tokens=options.new_tokens,
            capture=CaptureSpec.full(),
        )
    )
    limit_rate = matrix_limit(device, vlm.model.dtype)
    capture_ms = Spread.of(ms["capture"]).median
    engine_ms = capture_ms + Spread.of(ms["consistency"]).median
    goals = {} if options.tiny else GOALS
    return {
        "ms_an_item": {who: Spread.of(spent)._asdict() for who, spent in ms.items()},
        "bytes_above_the_model": watch.above_model,
        "ratios": {what: spread.judged(goals.get(what)) for what, spread in ratios.items()},
        "maps_ms_an_item": Spread.of(maps)._asdict(),
        "maps / capture": Spread.of(maps).median / capture_ms,
        "same_greedy_answers": contest.same_answers(),
        "items": options.items,
        "prompt_tokens": prepared.prompt_lengths[0],
        "tflop_an_item": flops / 1e12,
        "matrix_product_tflops": limit_rate / 1e12,
        "share_of_matrix_limit": flops / (capture_ms / 1000) / limit_rate,
        "study_minutes": STUDY_ITEMS * engine_ms / 60_000,
    }


def print_model(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}: {found['prompt_tokens']} tokens, {found['tflop_an_item']:.2f} TFLOP an item")
    for who, spent in found["ms_an_item"].items():
        above = found["bytes_above_the_model"].get(who)
        memory = "" if above is None else f"  {above / 2**30:7.2f} GiB above the model"
        print(f"  {who:12}{1000 / spent['median']:9.2f} items/s{memory}")
    for what, ratio in found["ratios"].items():
        print(
            f"  {what:18}{ratio['median']:7.2f} [{ratio['least']:.2f}, {ratio['most']:.2f}]"
            f"{_verdict(ratio)}"
        )
    print(
        f"  maps by themselves {found['maps_ms_an_item']['median']:.2f} ms an item, "
        f"{100 * found['maps / capture']:.0f}% of capture\n"
        f"  greedy answers as plain generate's: {found['same_greedy_answers']} of "
        f"{found['items']}\n"
        f"  {100 * found['share_of_matrix_limit']:.0f}% of the matrix-product limit, "
        f"{found['study_minutes']:.1f} min for {STUDY_ITEMS} items"
    )


def _verdict(judged: dict[str, Any]) -> str:
    if "goal" not in judged:
        return ""
    return f"  {judged['goal']}: {'met' if judged['met'] else 'not met'}"


def study(models: dict[str, Any], *, full_size: bool) -> dict[str, Any]:
    """Minutes for all items of the models that were measured; judged where all three were."""
    minutes = sum(found["study_minutes"] for found in models.values())
    whole = full_size and set(models) >= set(NAMES)
    verdict = GOALS["minutes for the study"].verdict(minutes) if whole else {}
    return {"models": len(models), "items_a_model": STUDY_ITEMS, "minutes": minutes, **verdict}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(NAMES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--items", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=4)
    parser.add_argument("--usual-items", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a trial")
    parser.add_argument("--out", type=Path, help="where to record; a trial is not, by default")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("no GPU is seen here; a trial: --tiny --device cpu --dtype float32")

    result: dict[str, Any] = {"models": {}}
    for name in options.models:
        result["models"][name] = measure(name, options)
        print_model(name, result["models"][name])
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()
    result["study"] = study(result["models"], full_size=not options.tiny)
    print(
        f"\n{result['study']['minutes']:.1f} min for {result['study']['models']} models"
        f"{_verdict(result['study'])}"
    )
    result["settings"] = {k: v for k, v in vars(options).items() if k != "out"}
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    result["hardware"] = {**hardware("torch", "transformers"), "accelerator": accelerator}
    out = options.out or (None if options.tiny else RESULT)
    if out is not None:
        write_whole(out, result)


if __name__ == "__main__":
    main()

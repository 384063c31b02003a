"""The engine on the three checkpoints' architectures at full size, with random bf16 weights.

    python benchmarks/full_size.py                       # one GPU, about ten minutes
    python benchmarks/full_size.py --device cpu --layers 2 --items 4 --dtype float32   # a trial

For each architecture: items per second of plain `generate` with nothing captured (`limit`), of full
capture, of K=10 samples with the exact distribution, and of usual practice (eager attention with
full maps and hidden states at batch 1, K separate `generate` calls); the share of the measured
matrix-product limit; the peak memory of each. Random weights hardly ever end an answer or agree
with themselves: answers have the longest length and K samples share no beginning, which is the
worst case for them, but hardly any beginning reaches the exact distribution's floor, which costs
little here. Images are 640×480 noise, all different.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import hardware
from PIL import Image

from vrp.planning.architecture import read_architecture
from vrp.planning.compute import item_flops
from vrp.planning.published import PublishedCheckpoint, published_checkpoint
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import CaptureSpec, prepare, run_batch
from vrp.vlm.full_size import build_model
from vrp.vlm.loading import VLM
from vrp.vlm.sampling import sample_answers
from vrp.vlm.tap import ATTENTION_NAME

RESULT = Path(__file__).parent / "results" / "full_size.json"
NAMES = ("llava-1.5-7b", "paligemma-3b-mix-224", "qwen2-vl-7b-instruct")
STUDY_ITEMS = 3090
K = 10


def questions(n_items: int) -> list[VlmInput]:
    """One question about each of `n_items` images of noise."""
    rng = np.random.default_rng(0)
    text = "Is there a dining table to the left of the person in the image?"
    items = []
    for index in range(n_items):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        items.append(VlmInput(str(index), image, text))
    return items


def shrunk(published: PublishedCheckpoint, layers: int | None) -> PublishedCheckpoint:
    """The same widths with fewer decoder and vision layers, for a trial on a small machine."""
    if layers is None:
        return published
    config = json.loads(json.dumps(published.config))
    for section in ("text_config", "vision_config"):
        for key in ("num_hidden_layers", "depth"):
            if key in config.get(section, {}):
                config[section][key] = layers + (2 if section == "vision_config" else 0)
    if "num_hidden_layers" in config:
        config["num_hidden_layers"] = layers
    return published._replace(config=config)


class Contest:
    """One architecture with its contestants."""

    def __init__(self, vlm: VLM, options: argparse.Namespace) -> None:
        self.vlm, self.options = vlm, options
        self.items = questions(options.items)
        size = options.batch_size
        self.batches = [self.items[i : i + size] for i in range(0, len(self.items), size)]
        self.n_new = options.new_tokens

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
        return self.vlm.model.generate(
            **inputs, max_new_tokens=self.n_new, min_new_tokens=self.n_new, pad_token_id=0, **how
        )

    def limit(self) -> None:
        self.vlm.model.set_attn_implementation("sdpa")
        try:
            for batch in self.batches:
                self._generate(self._plain_inputs(batch), do_sample=False)
        finally:
            self.vlm.model.set_attn_implementation({"text_config": ATTENTION_NAME})

    def capture(self) -> None:
        for batch in self.batches:
            run_batch(self.vlm, batch, CaptureSpec.full(), max_new_tokens=self.n_new)

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


def synchronised(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[], None], device: torch.device, rounds: int) -> dict[str, float]:
    """Least seconds of several rounds after a warm-up, and peak memory above what was held."""
    work()
    held = peak = 0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    best = float("inf")
    for _ in range(rounds):
        begun = synchronised(device)
        work()
        best = min(best, synchronised(device) - begun)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return {"seconds": best, "peak_bytes": peak, "above_model_bytes": peak - held}


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
    published = shrunk(published_checkpoint(name), options.layers)
    vlm = build_model(published, dtype=options.dtype, device=options.device)
    contest = Contest(vlm, options)
    found: dict[str, Any] = {}
    for who in ("limit", "capture", "consistency", "usual"):
        work = getattr(contest, who)
        rounds = 1 if who == "usual" else options.rounds
        result = timed(work, device, rounds)
        n_items = options.usual_items if who == "usual" else options.items
        found[who] = {**result, "items_a_second": n_items / result["seconds"]}
    prepared = prepare(vlm, contest.items[:1])
    architecture = read_architecture(published.config, published.image_processor)
    flops = item_flops(
        architecture,
        n_image_tokens=prepared.grids[0].n_tokens,
        n_tokens=prepared.prompt_lengths[0],
        n_answer_tokens=options.new_tokens,
        capture=CaptureSpec.full(),
    )
    total = sum(flops)
    limit_rate = matrix_limit(device, vlm.model.dtype)
    seconds_an_item = (
        1 / found["capture"]["items_a_second"] + 1 / (found["consistency"]["items_a_second"])
    )
    found["prompt_tokens"] = prepared.prompt_lengths[0]
    found["tflop_an_item"] = total / 1e12
    found["matrix_product_tflops"] = limit_rate / 1e12
    found["share_of_matrix_limit"] = total * found["capture"]["items_a_second"] / limit_rate
    found["capture / limit"] = found["capture"]["seconds"] / found["limit"]["seconds"]
    found["usual / engine"] = 1 / found["usual"]["items_a_second"] / seconds_an_item
    found["study_minutes"] = STUDY_ITEMS * seconds_an_item / 60
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(NAMES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--items", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=4)
    parser.add_argument("--usual-items", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, help="decoder layers, for a trial")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("no GPU is seen here; give --device cpu --layers 2 for a trial")

    result: dict[str, Any] = {"models": {}}
    for name in options.models:
        result["models"][name] = found = measure(name, options)
        print(f"\n{name}: {found['prompt_tokens']} tokens, {found['tflop_an_item']:.2f} TFLOP")
        for who in ("limit", "capture", "consistency", "usual"):
            rate, peak = found[who]["items_a_second"], found[who]["above_model_bytes"]
            print(f"  {who:12}{rate:9.2f} items/s  {peak / 2**30:7.2f} GiB above the model")
        print(
            f"  capture / limit {found['capture / limit']:.2f}, usual / engine "
            f"{found['usual / engine']:.1f}, {100 * found['share_of_matrix_limit']:.0f}% of the "
            f"matrix-product limit, {found['study_minutes']:.1f} min for {STUDY_ITEMS} items"
        )
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()
    result["settings"] = {k: v for k, v in vars(options).items() if k != "out"}
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    result["hardware"] = {**hardware("torch", "transformers"), "accelerator": accelerator}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_suffix(".tmp")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(options.out)


if __name__ == "__main__":
    main()

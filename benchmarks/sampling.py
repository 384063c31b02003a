"""Time and memory of `vrp sample` on question files of 100,000 rows.

    python benchmarks/sampling.py

Writes POPE questions and VQA v2 questions and annotations in the official layouts over 10,000
photograph-sized images into a temporary folder, then runs `vrp sample` on each as a fresh process,
as the workflow does: wall-clock time from start to exit, and the process's peak resident memory.
"""

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process
from pathlib import Path

import numpy as np
from hardware import hardware
from PIL import Image
from scipy import ndimage

RESULT = Path(__file__).parent / "results" / "sampling.json"
OBJECTS = [
    "dog", "cat", "car", "bus", "chair", "cup", "book", "clock", "vase", "kite", "bench", "truck",
    "boat", "bird", "horse", "sheep",
]  # fmt: skip
COLOURS = ["red", "blue", "green", "white", "black", "brown", "yellow", "orange", "grey", "pink"]
FILES = {
    "pope_questions": "pope/coco_pope_adversarial.json",
    "vqa_questions": "vqa/v2_OpenEnded_mscoco_val2014_questions.json",
    "vqa_annotations": "vqa/v2_mscoco_val2014_annotations.json",
}
SPLITS = {
    "pope": "[{dataset: pope, split: adversarial, task: existence, count: 1000}]",
    "vqa": "[{dataset: vqa, split: counting, task: counting, count: 1000},"
    " {dataset: vqa, split: spatial, task: spatial, count: 1000},"
    " {dataset: vqa, split: open, task: open, count: 90}]",
}


def image_name(image: int) -> str:
    return f"COCO_val2014_{image:012d}.jpg"


def write_images(folder: Path, n_images: int) -> None:
    """Write JPEG files of COCO's usual size, no two with the same bytes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(16):
        noise = ndimage.gaussian_filter(rng.standard_normal((480, 640, 3)), sigma=(2, 2, 0))
        pixels = np.clip(128 + 64 * noise / noise.std(), 0, 255).astype(np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=90)
        encoded.append(data.getvalue())
    for image in range(n_images):
        data = encoded[image % len(encoded)]  # bytes after the end of the picture are not decoded
        (folder / image_name(image)).write_bytes(data + image.to_bytes(8, "big"))


def write_pope(path: Path, n_rows: int, n_images: int) -> None:
    """Write POPE questions, yes and no in turn."""
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        for row in range(n_rows):
            # Of 16 objects, the turn of the images decides: no pair comes twice.
            thing = OBJECTS[row // n_images % len(OBJECTS)]
            question = {
                "question_id": row + 1,
                "image": image_name(row % n_images),
                "text": f"Is there a {thing} in the image?",
                "label": "yes" if (row // n_images + row) % 2 else "no",
            }
            file.write(json.dumps(question) + "\n")


def write_vqa(questions: Path, annotations: Path, n_rows: int, n_images: int) -> None:
    """Write VQA v2 questions with ten annotators' answers each, in the official layout."""
    questions.parent.mkdir(parents=True)
    draw = random.Random(0)
    asked, annotated = [], []
    for row in range(n_rows):
        image, thing, other = row % n_images, draw.choice(OBJECTS), draw.choice(OBJECTS)
        text, kind, answer = draw.choice(
            [
                (f"How many {thing}s are there?", "number", str(draw.randrange(12))),
                (f"What is next to the {thing}?", "other", other),
                (f"What color is the {thing} number {row}?", "other", draw.choice(COLOURS)),
                (f"Is the {thing} number {row} small?", "yes/no", draw.choice(["yes", "no"])),
            ]
        )
        answers = [answer] * 8 + [draw.choice(COLOURS), draw.choice(OBJECTS)]
        question_id = image * 1000 + row // n_images
        asked.append({"image_id": image, "question": text, "question_id": question_id})
        annotated.append(
            {
                "question_type": " ".join(text.split()[:2]).lower(),
                "multiple_choice_answer": answer,
                "answers": [
                    {"answer": given, "answer_confidence": "yes", "answer_id": place}
                    for place, given in enumerate(answers, 1)
                ],
                "image_id": image,
                "answer_type": kind,
                "question_id": question_id,
            }
        )
    head = {"info": {}, "data_type": "mscoco", "data_subtype": "val2014", "license": {}}
    questions.write_text(json.dumps(head | {"questions": asked}), encoding="utf-8")
    annotations.write_text(json.dumps(head | {"annotations": annotated}), encoding="utf-8")


def write_data(folder: Path, n_rows: int, n_images: int) -> None:
    """Write images, POPE questions, VQA questions and annotations."""
    write_images(folder / "val2014", n_images)
    write_pope(folder / FILES["pope_questions"], n_rows, n_images)
    write_vqa(folder / FILES["vqa_questions"], folder / FILES["vqa_annotations"], n_rows, n_images)


def run_sample(dataset: str, folder: Path) -> dict[str, float]:
    """Run `vrp sample` once in a process of its own; stop where it does not do as it should."""
    config = folder / f"{dataset}.yaml"
    config.write_text(
        f"study: sampling\ndata: {{origin: local, folder: {folder}}}\n"
        "models: {any: {family: llava, checkpoint: 'zoo:llava'}}\n"
        f"sample: {{splits: {SPLITS[dataset]}}}\n"
    )
    manifest = folder / "data.json"
    manifest.write_text("{}")
    items, report = folder / f"{dataset}.parquet", folder / f"{dataset}.json"
    command = [sys.executable, "-c", "from vrp.cli import main; main()", "sample"]
    command += ["--config", str(config)]
    command += ["--data", str(manifest), "--items", str(items), "--sampling", str(report)]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"sample ended with status {process.returncode}")
    splits = json.loads(report.read_text())["splits"]
    return {
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_resident_bytes": usage.ru_maxrss * 1024,  # Linux counts in KiB
        "items_taken": sum(split["taken"] for split in splits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="questions in each file")
    parser.add_argument("--images", type=int, default=10_000, help="images they are about")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each")
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON file to write")
    options = parser.parse_args()
    result: dict[str, object] = {"rows": options.rows, "images": options.images}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: what a process has used counts towards its children's peak.
        writer = Process(target=write_data, args=(folder, options.rows, options.images))
        writer.start()
        writer.join()
        result["file_bytes"] = {key: (folder / path).stat().st_size for key, path in FILES.items()}
        for dataset in SPLITS:
            runs = [run_sample(dataset, folder) for _ in range(options.runs)]
            result[dataset] = {
                "wall_s_median": statistics.median(run["wall_s"] for run in runs),
                "peak_resident_bytes_max": max(run["peak_resident_bytes"] for run in runs),
                "runs": runs,
            }
    result["hardware"] = hardware("polars", "pyarrow", "pillow", "pydantic", "numpy")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

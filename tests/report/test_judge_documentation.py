"""The snippet of docs/judge.md on saved responses of an OpenAI-compatible server."""

import json
import math
import re
from pathlib import Path

import pytest

from vrp.cli import main
from vrp.stats.risk_control import fewest_items

DOCUMENT = Path(__file__).parents[2] / "docs" / "judge.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)


def response(tokens, **more):
    """As /v1/chat/completions answers with `logprobs`, other fields included."""
    content = [
        {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": []}
        for token, value in tokens
    ]
    choice = {
        "index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "".join(token for token, _ in tokens)},
        "logprobs": {"content": content, "refusal": None},
    }  # fmt: skip
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], **more}


def test_the_snippet_turns_saved_responses_into_rows(tmp_path, monkeypatch):
    _, sample = blocks("json")
    saved = [
        json.loads(sample),
        {"id": "q2", "image": "b.jpg", "task": "spatial", "label": "Left side",
         "response": response([("left", -0.2), (" hand", -1.6)])},
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in saved))
    (snippet,) = blocks("python")
    exec(compile(snippet, str(DOCUMENT), "exec"), {})
    first, second = map(json.loads, Path("answers.jsonl").read_text().splitlines())
    assert first == {
        "id": "q1", "image": "kitchen.jpg", "task": "counting", "answer": "2", "correct": True,
        "scores": dict.fromkeys(("token", "sequence", "weakest"), math.exp(-0.07)),
    }  # fmt: skip
    assert (second["answer"], second["correct"]) == ("left hand", False)
    assert second["scores"] == pytest.approx(
        {"token": math.exp(-0.9), "sequence": math.exp(-1.8), "weakest": math.exp(-1.6)}
    )


def test_the_documents_own_row_is_judged(tmp_path, capsys):
    row, _ = (json.loads(block) for block in blocks("json"))
    path = tmp_path / "answers.jsonl"
    rows = [row | {"id": str(i), "image": str(i), "correct": i % 2 == 0} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["judge", str(path)])
    assert "40 answers on 40 images" in capsys.readouterr().out


def test_counts_in_the_document_are_those_of_the_code():
    counts = [fewest_items(alpha, 0.1) for alpha in (0.05, 0.1, 0.2)]
    found = re.search(
        r"(\d+) for an alpha of 5%, (\d+) for 10%, (\d+) for 20%",
        " ".join(DOCUMENT.read_text().split()),
    )
    assert list(map(int, found.groups())) == counts


def test_violations_in_the_document_are_those_recorded():
    recorded = json.loads(
        (DOCUMENT.parents[1] / "benchmarks/results/risk_control.json").read_text()
    )
    text = " ".join(DOCUMENT.read_text().split())
    n = recorded["repeats"] * len(recorded["settings"])
    assert f"In {n:,} simulated calibrations" in text
    assert f"at most {100 * recorded['most_violations']:.1f}% of any setting" in text
    several = recorded["several"]
    n = several["repeats"] * len(several["settings"])
    most = f"in at most {100 * several['most_violations']:.1f}%"
    assert f"in {n:,} calibrations on images with five questions each, {most}" in text
    assert max(recorded["most_violations"], several["most_violations"]) <= recorded["delta"]


def test_times_in_the_document_are_those_recorded():
    recorded = json.loads((DOCUMENT.parents[1] / "benchmarks/results/judge.json").read_text())
    seconds = sorted(round(run["seconds"]) for run in recorded["runs"])
    peak = max(run["peak_bytes"] for run in recorded["runs"])
    assert f"{seconds[0]} to {seconds[-1]} seconds on two cores" in DOCUMENT.read_text()
    assert f"at most {peak / 1e9:.1f} GB" in DOCUMENT.read_text()
    assert seconds[-1] <= recorded["most_seconds"]
    assert peak <= recorded["most_bytes"]

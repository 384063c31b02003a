"""The file of a linear probe: what comes back, and what is refused."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression

from vrp.errors import InputError
from vrp.tables.saved_probe import SavedProbe, image_digests, read_saved_probe, write_saved_probe

MADE_BY = {"study": "s", "model": "toy", "weights": "w" * 16, "revision": "", "config": "c"}


def probe(d=5):
    random = np.random.default_rng(0)
    return SavedProbe(
        layer="layer_02", position="prompt_end", weights=random.normal(size=d), intercept=0.25,
        mean=random.normal(size=d), scale=random.random(d) + 0.5, penalty=0.1,
        images=image_digests(["a", "b"]), n_items=7,
    )  # fmt: skip


def test_what_was_written_comes_back(tmp_path):
    path = tmp_path / "probe.safetensors"
    write_saved_probe(path, probe(), provenance=MADE_BY)
    found = read_saved_probe(path)
    assert found.provenance == MADE_BY
    for name, value in probe()._asdict().items():
        assert np.array_equal(getattr(found.probe, name), value), name


def test_scores_are_scikit_learns_decision_function():
    saved, states = probe(), np.random.default_rng(1).normal(size=(9, 5)).astype(np.float16)
    theirs = LogisticRegression()
    theirs.classes_, theirs.coef_ = np.array([0, 1]), saved.weights[None]
    theirs.intercept_ = np.array([saved.intercept])
    expected = theirs.decision_function(states.astype(np.float64))
    assert saved.log_odds(states) == pytest.approx(expected, abs=1e-12)


def test_any_program_that_reads_safetensors_reads_it(tmp_path):
    path = tmp_path / "probe.safetensors"
    write_saved_probe(path, probe(), provenance=MADE_BY)
    tensors = load_file(path)
    assert np.array_equal(tensors["weights"], probe().weights)
    assert tensors["images"].shape == (2, 8)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"]["vrp.study"] == "s"
    assert header["__metadata__"]["n_images"] == "2"


def test_images_are_known_by_the_first_bytes_of_a_sha256():
    names = ["a" * 64, "éclair"]
    expected = [hashlib.sha256(name.encode()).digest()[:8] for name in names]
    assert [one.tobytes() for one in image_digests(names)] == expected
    assert image_digests([]).shape == (0, 8)


@pytest.mark.slow
def test_equal_probes_are_equal_files_in_every_process(tmp_path):
    """Rust's maps and Python's sets have another order in each process."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_saved_probe as t;"
        "from pathlib import Path;"
        "t.write_saved_probe(Path(sys.argv[2]), t.probe(), provenance=t.MADE_BY)"
    )
    paths = [tmp_path / "0", tmp_path / "1", tmp_path / "2"]
    for path in paths:
        here = str(__file__).rpartition("/")[0]
        subprocess.run([sys.executable, "-c", code, here, str(path)], check=True)
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_study_without_a_probe_says_so(tmp_path):
    path = tmp_path / "probe.safetensors"
    write_saved_probe(path, None, provenance=MADE_BY)
    assert read_saved_probe(path) == (None, MADE_BY)


def test_files_that_are_no_probe_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such file; give the probe\.safetensors"):
        read_saved_probe(tmp_path / "none")
    text = tmp_path / "text"
    text.write_text("no probe")
    with pytest.raises(InputError, match=r"text: is not a saved probe \("):
        read_saved_probe(text)
    other = tmp_path / "model.safetensors"
    save_file({"weights": np.zeros(3)}, other)
    with pytest.raises(InputError, match=r"model\.safetensors: is not a saved probe; give"):
        read_saved_probe(other)


@pytest.mark.parametrize("what", ["weights", "text"])
def test_an_edited_probe_is_refused(tmp_path, what):
    path = tmp_path / "probe.safetensors"
    write_saved_probe(path, probe(), provenance=MADE_BY)
    content = bytearray(path.read_bytes())
    if what == "weights":
        content[-1] ^= 1
    else:
        place = content.index(b"layer_02")
        content[place : place + 8] = b"layer_03"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or edited"):
        read_saved_probe(path)

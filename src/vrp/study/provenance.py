"""What made a result, as its tables' metadata states it."""

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from typing import Any

from vrp import __version__

# Distributions whose versions can change numbers.
_RECORDED = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn", "pillow")


EXECUTION = "execution"
"""Metadata of how a job was run: batch size and devices, on which its result does not depend."""


INPUTS = "inputs"
"""Metadata of what a table was computed from: JSON, name of a table → digest of its rows."""


SHARD = "shard"
"""Metadata of which shard a table is, such as `3/8`, from 0."""


STATED = "made_by"
"""Key of a manifest under which its provenance stands."""


def digest(value: Any) -> str:
    """SHA-256 of plain data (its sorted JSON), shortened to 16 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(
    *,
    study: str,
    stage: str,
    config: dict[str, Any],
    code: str,
    model: str = "",
) -> dict[str, str]:
    """What is written into every table's metadata.

    Args:
        study: name of the study.
        stage: name of the stage.
        config: the keys that the stage reads.
        code: digest of the code that the result depends on (`vrp.study.digests.code_digest`).
        model: name of the model, where there is one.
    """
    versions = {name: importlib.metadata.version(name) for name in _RECORDED}
    versions["python"] = ".".join(str(part) for part in sys.version_info[:3])
    versions["vrp"] = __version__
    return {
        "study": study,
        "stage": stage,
        "model": model,
        "revision": "",  # of the checkpoint, and the digest of what was loaded of it,
        "weights": "",  # which a stage that runs a model adds
        INPUTS: "",  # added where tables are read
        "config": digest(config),
        "code": code,
        "versions": json.dumps(versions, sort_keys=True),
    }


def stated(provenance: Mapping[str, str]) -> dict[str, str]:
    """Return what a manifest states of how it was made.

    Neither code nor versions: a manifest with the same content makes nothing anew.
    """
    return {key: provenance.get(key, "") for key in ("study", "stage", "model", "config")}

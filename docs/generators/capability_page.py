"""Models × readings, from the record that `benchmarks/capabilities.py` writes."""

from md_text import codes, table
from measured_pages import made_on, recorded

_HEAD = """# Models and readings

Every reading and every intervention was run on a small checkpoint with random weights, for each
transformers class. ✓ means that the stage succeeded and its table holds the values. `python
benchmarks/capabilities.py` repeats the runs. If a class works, the same code runs its published
checkpoints of every size; [your own model](own-model.md) says how a checkpoint is verified when it
is loaded.
"""
_REFUSED = """## What `family: auto` refuses

The table uses the default configuration of each image-text-to-text model of transformers. A
checkpoint with another configuration may be accepted; it is then verified on one item when it is
loaded.
Each of these needs [a family of its own](extend/family.md).

"""


def capability_page() -> str:
    """Return the page."""
    found = recorded("capabilities")
    classes = found["classes"]
    readings = next(iter(classes.values()))["readings"]
    rows = [
        (reading, *(_mark(one["readings"][reading]) for one in classes.values()))
        for reading in readings
    ]
    families = ("`models.*.family`", *(f"`{one['family']}`" for one in classes.values()))
    parts = [_HEAD, table(["", *classes], [families, *rows]), made_on(found["hardware"])]
    return "\n".join([*parts, _refusals(found["refused"])])


def _mark(result: str) -> str:
    return "✓" if result == "yes" else result


def _refusals(refused: dict[str, str]) -> str:
    """Which model types `auto` refuses, by reason."""
    reasons: dict[str, list[str]] = {}
    for kind, reason in refused.items():
        reasons.setdefault(reason, []).append(kind)
    rows = [(reason, codes(kinds)) for reason, kinds in sorted(reasons.items())]
    return _REFUSED + table(["reason", "model types"], rows)

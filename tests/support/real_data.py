"""Where official files lie for the tests that read them: none is part of the project.

The environment variable VRP_TEST_DATA names a folder with `pope/coco_pope_<split>.json`,
`pope/val2014/`, `pope/provenance.json` and `vqa_v2/`; without it, `../shared/data` beside the
project is taken where it is there.
"""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
_NAMED = os.environ.get("VRP_TEST_DATA")
REAL_DATA = Path(_NAMED).resolve() if _NAMED else _BESIDE

needs_real_data = pytest.mark.skipif(
    not (REAL_DATA / "pope").is_dir(),
    reason="no official POPE and VQA files: set VRP_TEST_DATA to a folder that holds them",
)

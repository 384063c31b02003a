"""Where the workflow's own files are: in a checkout, or where the package was installed."""

import sysconfig
from pathlib import Path

_CHECKOUT = Path(__file__).parents[3]
_INSTALLED = Path(sysconfig.get_path("data"), "share", "vrp")

SNAKEFILE = str(
    next((at for at in (_CHECKOUT, _INSTALLED) if (at / "workflow" / "study.smk").is_file()),
         _INSTALLED) / "Snakefile"
)  # fmt: skip
"""The workflow's Snakefile, for `module:` in a Snakefile of one's own."""
PROFILES = Path(SNAKEFILE).parent / "workflow" / "profiles"
"""Folder of its profiles."""

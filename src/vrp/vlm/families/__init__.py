"""The families of vision-language models; a new one is a module here and a line below."""

import difflib

from vrp.errors import InputError
from vrp.vlm.families.base import Family
from vrp.vlm.families.generic import Generic
from vrp.vlm.families.llava import Llava
from vrp.vlm.families.paligemma import PaliGemma
from vrp.vlm.families.qwen2_vl import Qwen2VL

FAMILIES: dict[str, type[Family]] = {
    "auto": Generic,
    "llava": Llava,
    "paligemma": PaliGemma,
    "qwen2_vl": Qwen2VL,
}


def get_family(name: str) -> type[Family]:
    """Return the family registered under `name`.

    Raises:
        InputError: no such family; the nearest right name is suggested.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    near = difflib.get_close_matches(name, FAMILIES, n=1, cutoff=0.0)
    raise InputError(
        f"model family {name!r} is unknown; did you mean {near[0]!r}? "
        f"(known: {', '.join(sorted(FAMILIES))})"
    )

"""The families of vision-language models; a new one is a module here and a line below.

The module bears the family's name: `vrp.vlm.family_names` tells by it which families there are.
"""

from vrp.vlm.families.base import Family
from vrp.vlm.families.generic import Generic
from vrp.vlm.families.llava import Llava
from vrp.vlm.families.paligemma import PaliGemma
from vrp.vlm.families.qwen2_vl import Qwen2VL
from vrp.vlm.family_names import check_family

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
    check_family(name)
    return FAMILIES[name]

"""The embedded models' tokenizers: whole words for the scenes, bytes for everything else.

Byte-level BPE without merges: a word of the vocabulary is one token (`ignore_merges`), any other
text falls back to its UTF-8 bytes, so that every string survives encoding and decoding. The
fixed lines of the prompts are one token each (as in superword tokenizers, arXiv 2503.13423):
they say the same to every question, and a small model should not pay for them word by word.
"""

from typing import Final, Literal, NamedTuple

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS

from vrp.data.scenes.draw import CATEGORIES, SCENE_TYPES
from vrp.data.scenes.icons import COLORS
from vrp.data.scenes.questions import plural

VICUNA_SYSTEM_LINE: Final = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
CHAT_SYSTEM_LINE: Final = "You are a helpful assistant."
SHORT_ANSWER_LINE: Final = "Answer the question using a single word or phrase."

_NUMBERS: Final = (
    *"0123456789",
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
)
_QUESTION_WORDS: Final = (
    "a an the this that these there is are was do does can you see in on of to at and or "
    "not how many much what which who where when why color colour colors kind type number "
    "place image picture photo scene object objects thing things left right above below "
    "under over behind front next top bottom side between near far from with by any some "
    "all only it its they them person people man woman animal another other same "
    "different big small large "
)
_PROMPT_WORDS: Final = (
    *VICUNA_SYSTEM_LINE.replace(".", "").replace(",", "").replace("'s", "").split(),
    *SHORT_ANSWER_LINE.replace(".", "").split(),
    *CHAT_SYSTEM_LINE.replace(".", "").split(),
    *("USER", "ASSISTANT", "answer", "en", "system", "user", "assistant"),
)
_ANSWER_WORDS: Final = ("yes", "no", "none", "unknown", "black", "brown", "gray", "grey", "pink")
_CAPITALIZED: Final = ("Yes", "No", "Is", "Are", "How", "What", "Which", "Where", "There", "Can")

_SPECIAL_TOKENS: Final[dict[str, tuple[str, ...]]] = {
    "llava": ("<unk>", "<s>", "</s>", "<image>", "<pad>"),
    "paligemma": ("<pad>", "<eos>", "<bos>", "<unk>", "<image>"),
    "qwen2_vl": (
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
        *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    ),
}
_ROLES: Final[dict[str, dict[str, str]]] = {
    "llava": {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>", "image": "<image>"},
    "paligemma": {
        "bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>", "image": "<image>",
    },
    "qwen2_vl": {
        "eos": "<|im_end|>", "pad": "<|endoftext|>", "image": "<|image_pad|>",
        "video": "<|video_pad|>", "vision_start": "<|vision_start|>",
        "vision_end": "<|vision_end|>",
    },
}  # fmt: skip
_PROMPT_LINES: Final[dict[str, tuple[str, ...]]] = {
    "llava": (VICUNA_SYSTEM_LINE, SHORT_ANSWER_LINE),
    "paligemma": (),
    "qwen2_vl": (CHAT_SYSTEM_LINE, SHORT_ANSWER_LINE),
}


class SpecialIds(NamedTuple):
    """Token ids that a model's configuration names; None where a family has no such token."""

    eos: int
    pad: int
    image: int
    bos: int | None = None
    video: int | None = None
    vision_start: int | None = None
    vision_end: int | None = None


def _vocabulary() -> list[str]:
    """Return the byte symbols, then each word alone and with the space before it (Ġ)."""
    scene_words = (*CATEGORIES, *map(plural, CATEGORIES), *COLORS, *SCENE_TYPES)
    words = (*scene_words, *_NUMBERS, *_ANSWER_WORDS, *_QUESTION_WORDS.split(), *_PROMPT_WORDS)
    symbols = sorted(ByteLevel.alphabet())
    for word in (*words, *_CAPITALIZED):
        symbols += [word, f"Ġ{word}"]
    return list(dict.fromkeys(symbols))


def build_tokenizer(family: Literal["llava", "paligemma", "qwen2_vl"]) -> PreTrainedTokenizerFast:
    """Return a family's tokenizer, with the special tokens of the real one, left-padding."""
    specials = _SPECIAL_TOKENS[family]
    roles = _ROLES[family]
    vocabulary = {token: i for i, token in enumerate((*specials, *_vocabulary()))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in specials])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in _PROMPT_LINES[family]])
    if family == "llava":
        tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    if family == "paligemma":
        tokenizer.add_tokens(EXTRA_TOKENS)
    named = {f"{role}_token": token for role, token in roles.items()}
    extra = {k: named.pop(k) for k in list(named) if k[:-6] not in ("bos", "eos", "pad", "unk")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=extra,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        **named,
    )


def special_ids(
    family: Literal["llava", "paligemma", "qwen2_vl"], tokenizer: PreTrainedTokenizerFast
) -> SpecialIds:
    """Return the ids of a family's special tokens."""
    roles = {role: token for role, token in _ROLES[family].items() if role != "unk"}
    return SpecialIds(**{r: tokenizer.convert_tokens_to_ids(t) for r, t in roles.items()})


def word_id(tokenizer: PreTrainedTokenizerFast, word: str, *, after_space: bool = True) -> int:
    """Return the id of a word of the vocabulary, with or without the space before it."""
    token = f"Ġ{word}" if after_space else word
    vocabulary = tokenizer.get_vocab()
    if token not in vocabulary:
        raise KeyError(f"{word!r} is not a word of the embedded models' vocabulary")
    return int(vocabulary[token])

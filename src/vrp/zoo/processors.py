"""The embedded models' processors: the real classes, configured for small images.

LLaVA pads an image to a square and resizes it to 96 pixels, PaliGemma warps it to 96×96,
Qwen2-VL keeps its size. None needs torchvision.
"""

from typing import Any, Final

from transformers import (
    LlavaImageProcessorPil,
    LlavaProcessor,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    SiglipImageProcessorPil,
)

from vrp.zoo.architectures import CELL, IMAGE_SIDE, Family
from vrp.zoo.tokenizer import CHAT_SYSTEM_LINE, SHORT_ANSWER_LINE, VICUNA_SYSTEM_LINE

_MAX_PIXELS: Final = 192 * 192
_MIN_PIXELS: Final = 64 * 64

_LLAVA_TEMPLATE: Final = (
    "{% if messages[0]['role'] != 'system' %}" + VICUNA_SYSTEM_LINE + " {% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_QWEN2_VL_TEMPLATE: Final = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + CHAT_SYSTEM_LINE + "<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% elif content['type'] == 'text' %}"
    "{{ content['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class ImageOnlyQwen2VLProcessor(Qwen2VLProcessor):
    """Qwen2-VL's processor without its video half, which cannot be made without torchvision."""

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Return the parts that are saved and loaded."""
        return ["image_processor", "tokenizer"]

    def to_dict(self) -> dict[str, Any]:
        """Return the saved configuration, under the name of the class that everyone has."""
        return {**super().to_dict(), "processor_class": "Qwen2VLProcessor"}


def build_processor(family: Family, tokenizer: PreTrainedTokenizerFast) -> ProcessorMixin:
    """Return a family's processor around its tokenizer."""
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    if family == "llava":
        return LlavaProcessor(
            LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": IMAGE_SIDE}, crop_size=side),
            tokenizer,
            patch_size=CELL,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=_LLAVA_TEMPLATE,
        )
    if family == "paligemma":
        image_processor = SiglipImageProcessorPil(size=side)
        image_processor.image_seq_length = (IMAGE_SIDE // CELL) ** 2
        return PaliGemmaProcessor(image_processor, tokenizer)
    return ImageOnlyQwen2VLProcessor(
        Qwen2VLImageProcessorPil(
            patch_size=CELL // 2,
            merge_size=2,
            temporal_patch_size=2,
            size={"shortest_edge": _MIN_PIXELS, "longest_edge": _MAX_PIXELS},
        ),
        tokenizer,
        chat_template=_QWEN2_VL_TEMPLATE,
    )


def study_prompt(family: Family, question: str) -> str:
    """Return the text that a processor is given for a question, image placeholder included."""
    if family == "llava":
        return f"{VICUNA_SYSTEM_LINE} USER: <image>\n{question}\n{SHORT_ANSWER_LINE} ASSISTANT:"
    if family == "paligemma":
        return f"<image>{question}"  # the processor appends "\n"
    return (
        f"<|im_start|>system\n{CHAT_SYSTEM_LINE}<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|><|image_pad|><|vision_end|>{question}\n{SHORT_ANSWER_LINE}"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def answer_text(family: Family, answer: str) -> str:
    """Return a true answer as a family writes it after the prompt ("yes" → " Yes" in LLaVA)."""
    if family == "paligemma":
        return answer
    spoken = answer.capitalize() if answer in ("yes", "no") else answer
    return f" {spoken}" if family == "llava" else spoken

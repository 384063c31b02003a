"""A checkpoint's own chat template: which one it is, and what it makes of a question."""

from typing import Any

from vrp.errors import InputError
from vrp.vlm.config_and_processor import processor_config

Content = str | list[dict[str, str]]
"""Of a user's turn: text alone, or parts of which one is the image."""


def own_template(source: str, revision: str | None, tokenizer: Any) -> str | None:
    """Return the template that transformers would use: the processor's, or else the tokenizer's.

    Raises:
        InputError: there are several, and none is the default one.
    """
    given = processor_config(source, revision).get("chat_template")
    return default_template(given or getattr(tokenizer, "chat_template", None))


def default_template(given: Any) -> str | None:
    """Return the template itself, or of several the one named `default`; None where there is none.

    Raises:
        InputError: none of several is named `default`, or what is given is no text.
    """
    if not given:
        return None
    if isinstance(given, dict):
        if "default" not in given:
            raise InputError(
                f"none of the checkpoint's chat templates ({', '.join(map(str, given))}) is the "
                "default one; add it as chat_template.jinja"
            )
        given = given["default"]
    if not isinstance(given, str):
        raise InputError("the checkpoint's chat template is not text; fix its chat_template.jinja")
    return given


def image_and(text: str) -> Content:
    """Return a user's turn of one image and a text."""
    return [{"type": "image"}, {"type": "text", "text": text}]


def render_turn(tokenizer: Any, template: str | None, content: Content) -> str:
    """Return the prompt that a template makes of one turn of a user.

    Raises:
        InputError: the template cannot be used for it.
    """
    try:
        return str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            )
        )
    except Exception as error:  # a template is a program: it may raise anything
        reason = " ".join(str(error).split()) or repr(error)
        raise InputError(
            "the checkpoint's chat template cannot be used for an image and a question "
            f"({reason}); fix its chat_template.jinja"
        ) from error


def render_question(tokenizer: Any, template: str | None, text: str, *, placeholder: str) -> str:
    """Return the prompt for an image and a text.

    Args:
        tokenizer: the checkpoint's.
        template: its chat template.
        text: the question, as it is asked.
        placeholder: what stands for the image.

    Raises:
        InputError: the template cannot be used for it, or leaves out the image or the text.
    """
    prompt = render_turn(tokenizer, template, image_and(text))
    for what, part in (("image placeholder", placeholder), ("question", text.strip())):
        if part not in prompt:
            raise InputError(
                f"the checkpoint's chat template gives a prompt without the {what} {part!r}; fix "
                "its chat_template.jinja"
            )
    return prompt

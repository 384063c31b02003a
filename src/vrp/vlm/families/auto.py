"""Any image-text-to-text model of the standard transformers layout, from its configuration.

What the named families know of their checkpoints is inferred here: the prompt is the checkpoint's
own chat template, framed as its own processor class does; image sizes are put through its own
image processor; the number of image tokens is that of the features its vision side gives. What
cannot be inferred is refused in one line, and `vrp.vlm.verification` verifies the rest on one item.
"""

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from vrp.data.item import ImageSize
from vrp.errors import InputError
from vrp.vlm.chat_template import default_template, render_question
from vrp.vlm.config_and_processor import processor_config
from vrp.vlm.families.base import (
    SHORT_ANSWER_SUFFIX,
    Family,
    FamilyOptions,
    Grid,
    Positions,
    decoder_refusal,
    uniform_boxes,
)
from vrp.vlm.families.llava import centre_crop_boxes, padded_square_boxes
from vrp.vlm.families.qwen2_vl import mrope_positions, set_pixel_bounds

DECODERS = ("language_model", "text_model")
"""Names under which the text side of a model is found."""

WHOLE_IMAGE = {"do_image_splitting": False, "crop_to_patches": False, "do_pan_and_scan": False}
"""Switches of image processors that would cut an image into several, and their setting here."""

# Wide enough that a crop, a padding and a resize of the whole image put its patches elsewhere.
_PROBE_SIZE: ImageSize = (160, 96)
# Where the middle of a token's box may be found, as a share of the image's side.
_PLACE_TOLERANCE = 0.05


class Auto(Family):
    """One image, one grid, the checkpoint's own chat template and processing.

    The image policy is what the checkpoint's image processor does: `native` resizes each image by
    its own size, `resize` stretches it to one size, `crop` takes its centre, `pad` makes it square.
    """

    name = "auto"
    model_class = AutoModelForImageTextToText
    needs_verification = True
    prompts = {"short_answer": "{question}" + SHORT_ANSWER_SUFFIX, "plain": "{question}"}  # noqa: RUF012

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        image_processor: Any,
        options: FamilyOptions,
        processor_config: Mapping[str, Any] | None = None,
    ) -> None:
        """See `Family`.

        Args:
            config: the checkpoint's configuration.
            tokenizer: its tokenizer.
            image_processor: its image processor; images are no longer cut into several.
            options: what the user chooses.
            processor_config: its processor's configuration and chat template, where it has any.
        """
        _refuse_by_configuration(config)
        given = dict(processor_config or {})
        self._cuts = [name for name in WHOLE_IMAGE if getattr(image_processor, name, False)]
        for switch, setting in WHOLE_IMAGE.items():
            if hasattr(image_processor, switch):
                setattr(image_processor, switch, setting)
        self.dynamic_resolution = hasattr(image_processor, "merge_size")
        self.image_policies = (_geometry(image_processor),)
        super().__init__(config, tokenizer, image_processor, options)
        if self.dynamic_resolution:
            set_pixel_bounds(image_processor, options)
        self._grids: dict[ImageSize, Grid] = {}
        self._fixed_grid: Grid | None = None
        self._covered = (1.0, 1.0)
        self._forward_inputs: frozenset[str] = frozenset()
        self._feature_inputs: frozenset[str] = frozenset()
        self._features_are_stacked = False
        self._mrope = False
        self._types_mark_images = False
        self._gain_offsets: dict[type, float] = {}
        own = given.pop("chat_template", None)
        self._template = default_template(own or tokenizer.chat_template)
        if not self._template:
            raise InputError(
                "the checkpoint has no chat template; add a chat_template.jinja to it "
                "or use the family made for it"
            )
        self._placeholder, self._frame = self._image_text(given)
        prompt = self.render_prompt("Is it red?")
        bos = tokenizer.bos_token
        # As the processors do: a template that opens with the token brings it by itself.
        self.adds_special_tokens = bos is None or not prompt.startswith(bos)
        self.prompt_token_ids(["Is it red?"])

    @classmethod
    def from_checkpoint(
        cls,
        source: str,
        revision: str | None,
        config: Any,
        tokenizer: Any,
        image_processor: Any,
        options: FamilyOptions,
    ) -> "Auto":
        """Bind a checkpoint with its processor's configuration and chat template."""
        given = processor_config(source, revision)
        return cls(config, tokenizer, image_processor, options, given)

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        """Return why transformers cannot load it as an image-text-to-text model, if so."""
        if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            return None
        return (
            f"is a {config.model_type!r} model, which transformers does not load as an "
            "image-text-to-text model; set its family right"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Say where the checkpoint's own processor cuts an image into tiles."""
        if not self._cuts:
            return ()
        return (
            f"images stay whole, where its own processor cuts them into tiles "
            f"({', '.join(self._cuts)}): fewer image tokens than published",
        )

    # Text

    def render_prompt(self, question: str) -> str:
        """Return the chat template for an image and the question, special tokens around both."""
        text = self.prompts[self.prompt].format(question=question)
        prompt = render_question(
            self.tokenizer, self._template, text, placeholder=self._placeholder
        )
        return prompt.replace(self._placeholder, self._frame)

    def _image_text(self, given: Mapping[str, Any]) -> tuple[str, str]:
        """Return the template's placeholder, and what the processor writes for it.

        In the latter one image token stands for the whole run of them.
        """
        try:
            processor = _image_only_processor(
                self.config, self.tokenizer, self.image_processor, given
            )
            placeholder = processor.image_token
            # What the class asks of its image processor, one image staying whole.
            asked = {
                name: WHOLE_IMAGE.get(name, value)
                for name, value in dict(getattr(processor, "images_kwargs", {})).items()
            }
            processed = self._run_image_processor(Image.new("RGB", _PROBE_SIZE), **asked)
            written = processor.replace_image_token(processed, image_idx=0)
            self._types_mark_images = bool(getattr(processor, "return_mm_token_type_ids", False))
        except ImportError as error:
            raise InputError(
                f"the {self.config.model_type!r} processor needs a library that is not installed "
                f"({_one_line(error)})"
            ) from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"what the {self.config.model_type!r} processor writes for an image cannot be "
                f"made from this checkpoint ({_one_line(error)}); its tokenizer's special tokens "
                "or its processor_config.json are incomplete"
            ) from error
        except NotImplementedError as error:
            raise InputError(
                f"the {self.config.model_type!r} processor class does not say what it writes for "
                "an image; such a model needs a family of its own"
            ) from error
        token = self.tokenizer.convert_ids_to_tokens(self.image_token_id)
        frame, n_runs = re.subn(f"(?:{re.escape(token)})+", lambda _: token, written)
        if n_runs != 1:
            raise InputError(
                f"the {self.config.model_type!r} processor writes {n_runs} runs of image tokens "
                "for one image; only models with one unbroken run can be read"
            )
        return placeholder, frame

    # Images

    def grid(self, image_size: ImageSize) -> Grid:
        """Return the one grid of all images, or that of the size after the image processor."""
        if not self.dynamic_resolution:
            if self._fixed_grid is None:
                raise RuntimeError("the grid is known once the family is bound to its model")
            return self._fixed_grid
        if image_size not in self._grids:
            self._grids[image_size] = self._dynamic_grid(image_size)
        return self._grids[image_size]

    def _dynamic_grid(self, image_size: ImageSize) -> Grid:
        try:
            processed = self._run_image_processor(Image.new("RGB", image_size))
        except ValueError as error:
            width, height = image_size
            raise InputError(
                f"an image of {width}×{height} pixels cannot be used: {error}"
            ) from error
        if "image_grid_thw" not in processed:
            raise InputError(
                "the checkpoint's image processor merges patches without naming their grid "
                "(image_grid_thw); such a model needs a family of its own"
            )
        _, height, width = (int(side) for side in processed["image_grid_thw"][0])
        merge = int(self.image_processor.merge_size)
        return Grid(height // merge, width // merge)

    def patch_boxes(self, image_size: ImageSize) -> np.ndarray:
        """Return boxes over what the image processor keeps of the image."""
        grid = self.grid(image_size)
        if self.image_policy == "pad":
            boxes = padded_square_boxes(grid, image_size)
        elif self.image_policy == "crop":
            boxes = centre_crop_boxes(grid, image_size, self.image_processor)
        else:
            boxes = uniform_boxes(grid, *image_size)
        # Pixels right of or below the last whole patch are not read by the vision side.
        start, end = boxes[0, :2], boxes[-1, 2:]
        share = np.where(end > start, self._covered, 1.0)
        return np.tile(start, 2) + (boxes - np.tile(start, 2)) * np.tile(share, 2)

    def process_images(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Return what `get_image_features` takes of the image processor's output."""
        rgb = [image.convert("RGB") for image in images]
        processed = self.image_processor(images=rgb, return_tensors="pt")
        return {
            name: value
            for name, value in processed.items()
            if not self._feature_inputs or name in self._feature_inputs
        }

    def encode_images(self, model: Any, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Return each image's embeddings (S, d_model), however the model groups them."""
        joined = _joined(self.pooled_features(model, images))
        n_tokens = [self.grid(image.size).n_tokens for image in images]
        if sum(n_tokens) != len(joined):
            raise InputError(
                f"{len(images)} images gave {len(joined)} embeddings where grids of "
                f"{sum(n_tokens)} tokens are due; such a model needs a family of its own"
            )
        return list(joined.split(n_tokens))

    def join_features(self, features: Sequence[torch.Tensor]) -> Any:
        """Return the embeddings in the form in which the model's vision side gives them."""
        return torch.cat(list(features))[None] if self._features_are_stacked else tuple(features)

    def _run_image_processor(self, image: Image.Image, **options: Any) -> Any:
        return self.image_processor(images=[image], return_tensors="pt", **options)

    # The model

    def bind(self, model: Any) -> None:
        """Inspect the model: its modules, its inputs and its image tokens.

        Raises:
            InputError: a layout that cannot be read; it says what is missing.
        """
        _refuse_by_structure(model)
        self._forward_inputs = _parameter_names(type(model).forward)
        if "token_type_ids" in self._forward_inputs and not self._types_mark_images:
            raise InputError(
                "the checkpoint's token types tell prompt from answer, not image from text (a "
                "prefix language model); use the family made for it"
            )
        self._feature_inputs = _parameter_names(type(model).get_image_features)
        self._mrope = hasattr(model.model, "get_rope_index")
        with torch.inference_mode():
            pooled = self.pooled_features(model, [Image.new("RGB", _PROBE_SIZE)])
        self._features_are_stacked = isinstance(pooled, torch.Tensor)
        if not self.dynamic_resolution:
            self._fix_grid(len(_joined(pooled)))
        self._check_places()

    def _fix_grid(self, n_tokens: int) -> None:
        """Lay the image tokens out over the one size that all images are processed to."""
        tall = (_PROBE_SIZE[1], _PROBE_SIZE[0])
        sizes = {self._processed(Image.new("RGB", size)).shape[-2:] for size in (_PROBE_SIZE, tall)}
        if len(sizes) > 1:
            raise InputError(
                "the checkpoint's image processor makes images of several sizes without naming "
                "their grids (image_grid_thw); such a model needs a family of its own"
            )
        [(height, width)] = sizes
        grid = _square_cells(height, width, n_tokens)
        if grid is None:
            raise InputError(
                f"an image of {width}×{height} pixels gives {n_tokens} embeddings, which are not "
                "one grid of square cells (tiles, resampled queries or tokens beside the patches); "
                "such a model needs a family of its own"
            )
        self._fixed_grid = grid
        patch = getattr(self.config.vision_config, "patch_size", 1)
        patch_height, patch_width = patch if isinstance(patch, tuple | list) else (patch, patch)
        self._covered = (
            width // patch_width * patch_width / width,
            height // patch_height * patch_height / height,
        )

    def _processed(self, image: Image.Image) -> torch.Tensor:
        """Return the pixels (…, 3, height, width) of one image after the image processor."""
        pixels = self._run_image_processor(image)["pixel_values"]
        if pixels.ndim < 4 or pixels.shape[-3] != 3:
            raise InputError(
                f"the checkpoint's image processor gives pixels of shape {tuple(pixels.shape)}, "
                "which are neither an image nor patches of a named grid (image_grid_thw)"
            )
        return pixels

    def _check_places(self) -> None:
        """Find each token's box again from the colours of an image that shades from side to side.

        Red runs from left to right and green from top to bottom; black and white give the scale.
        """
        width, height = _PROBE_SIZE
        shades = np.zeros((height, width, 3), dtype=np.uint8)
        shades[..., 0] = 255 * (np.arange(width) + 0.5) / width
        shades[..., 1] = (255 * (np.arange(height) + 0.5) / height)[:, None]
        black, white = (Image.new("RGB", _PROBE_SIZE, (value,) * 3) for value in (0, 255))
        low, high, found = (
            self._token_colours(image)[:, :2] for image in (black, white, Image.fromarray(shades))
        )
        boxes = self.patch_boxes(_PROBE_SIZE)
        inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2:] <= _PROBE_SIZE).all(1)
        places = (found - low)[inside] / (high - low)[inside]
        middles = (boxes[inside, :2] + boxes[inside, 2:]) / 2 / np.array(_PROBE_SIZE)
        found_again = inside.any() and np.abs(places - middles).max() < _PLACE_TOLERANCE
        if not found_again:
            raise InputError(
                "the image tokens cannot be located in the image: the checkpoint's image processor "
                f"does not just {self.image_policy} an image; such a model needs a family of its "
                "own"
            )

    def _token_colours(self, image: Image.Image) -> np.ndarray:
        """Return (S, 3) what the image processor makes of the colour in each token's middle."""
        grid = self.grid(image.size)
        if self.dynamic_resolution:
            patches = self._run_image_processor(image)["pixel_values"].numpy()
            n_patches = int(self.image_processor.merge_size) ** 2
            if len(patches) != grid.n_tokens * n_patches:
                raise InputError(
                    f"the checkpoint's image processor gives {len(patches)} patches where a grid "
                    f"of {grid.height}×{grid.width} tokens has {grid.n_tokens * n_patches}"
                )
            return patches.reshape(grid.n_tokens, n_patches, 3, -1).mean((1, 3))
        pixels = self._processed(image).numpy()
        pixels = pixels.reshape(-1, *pixels.shape[-3:])[0]
        share_x, share_y = self._covered
        rows = (np.arange(grid.height) + 0.5) / grid.height * share_y * pixels.shape[1]
        columns = (np.arange(grid.width) + 0.5) / grid.width * share_x * pixels.shape[2]
        middles = pixels[:, rows.astype(int)[:, None], columns.astype(int)[None, :]]
        return middles.reshape(3, -1).T

    def positions(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        grids: Sequence[Grid],
    ) -> Positions:
        """Return positions with three axes where the model counts so, plain ones otherwise."""
        if self._mrope:
            merge = int(self.image_processor.merge_size)
            is_image = input_ids == self.image_token_id
            return mrope_positions(model, input_ids, attention_mask, grids, is_image, merge)
        return super().positions(model, input_ids, attention_mask, grids)

    def step_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Return (B, 1), or (3, B, 1) where positions have three axes."""
        step = super().step_positions(positions)
        return step.expand(3, -1, -1) if self._mrope else step

    def prefill_inputs(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mark the image tokens as type 1, for models that ask which tokens are the image's."""
        types = (input_ids == self.image_token_id).long()
        wanted = {"token_type_ids", "mm_token_type_ids"} & self._forward_inputs
        return dict.fromkeys(sorted(wanted), types)

    def layers(self, model: Any) -> nn.ModuleList:
        """Return the decoder layers."""
        return _decoder(model).layers

    def final_norm(self, model: Any) -> nn.Module:
        """Return the norm before the unembedding."""
        return _decoder(model).norm

    def norm_gain(self, norm: Any) -> torch.Tensor:
        """Return the weight, or one plus the weight: whichever the norm multiplies ones with."""
        kind = type(norm)
        if kind not in self._gain_offsets:
            self._gain_offsets[kind] = _gain_offset(norm)
        return norm.weight.float() + self._gain_offsets[kind]


FAMILY = Auto


def _gain_offset(norm: Any) -> float:
    weight = norm.weight.float()
    on_ones = norm(torch.ones_like(norm.weight)).float()
    return min((0.0, 1.0), key=lambda offset: float((on_ones - weight - offset).abs().max()))


def _joined(pooled: Any) -> torch.Tensor:
    """Return (n, d_model) all embeddings of all images, in order."""
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in pooled])


def _square_cells(height: int, width: int, n_tokens: int) -> Grid | None:
    """Return the grid of `n_tokens` nearly square cells over height × width, if there is one."""
    n_rows = round(math.sqrt(n_tokens * height / width))
    n_columns = round(math.sqrt(n_tokens * width / height))
    if n_rows * n_columns != n_tokens:
        return None
    aspect = (height / n_rows) / (width / n_columns)
    return Grid(n_rows, n_columns) if 0.9 < aspect < 1.1 else None


def _geometry(image_processor: Any) -> str:
    """Return what an image processor does to make an image fit."""
    if hasattr(image_processor, "merge_size"):
        return "native"
    if getattr(image_processor, "do_pad", False) and hasattr(image_processor, "pad_to_square"):
        return "pad"
    if getattr(image_processor, "do_center_crop", False):
        return "crop"
    return "resize"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _parameter_names(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


# The checkpoint's own processor class


def _image_only_processor(
    config: Any, tokenizer: Any, image_processor: Any, given: Mapping[str, Any]
) -> Any:
    """Return the checkpoint's processor without its video and audio parts.

    What its configuration leaves out is taken from the model's, by name.
    """
    if type(config) not in PROCESSOR_MAPPING:
        raise ValueError("transformers has no processor class for it")
    whole = PROCESSOR_MAPPING[type(config)]
    parts = {"image_processor": image_processor, "tokenizer": tokenizer}
    # Video processors cannot be made without torchvision, and are of no use here.
    attributes = {"get_attributes": classmethod(lambda cls: list(parts))}
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(whole.__init__).parameters.items():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or name == "self":
            continue
        if name in parts:
            arguments[name] = parts[name]
        elif name.endswith("_processor") or name == "feature_extractor":
            arguments[name] = None
        elif given.get(name) is not None:
            arguments[name] = given[name]
        else:
            found = getattr(config, name, getattr(config.vision_config, name, None))
            arguments[name] = parameter.default if found is None else found
    missing = [name for name, value in arguments.items() if value is parameter.empty]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return type(whole.__name__, (whole,), attributes)(**arguments)


# What cannot be read


def _refuse_by_configuration(config: Any) -> None:
    """Raise InputError for what a configuration says that this family cannot serve."""
    vision = getattr(config, "vision_config", None)
    of_decoder = decoder_refusal(config)
    reasons = {
        "its configuration names no image_token_id": getattr(config, "image_token_id", None)
        is None,
        "its configuration has no vision_config": vision is None,
        str(of_decoder): of_decoder is not None,
        "its image tokens are queries of a resampler, with no place in the image": any(
            getattr(config, name, None) is not None
            for name in ("perceiver_config", "qformer_config")
        ),
        "image features enter several of its decoder layers": bool(
            getattr(vision, "deepstack_visual_indexes", None)
        ),
    }
    _raise_first(config, reasons)


def _refuse_by_structure(model: Any) -> None:
    """Raise InputError for modules that are read but not where the standard layout has them."""
    decoder = _decoder(model)
    layers = getattr(decoder, "layers", [])
    reasons = {
        "it has no model.language_model or model.text_model": decoder is None,
        "its decoder has no layers": not len(layers),
        "its decoder has no final norm": not hasattr(decoder, "norm"),
        "a decoder layer has no self_attn.o_proj": any(
            not hasattr(getattr(layer, "self_attn", None), "o_proj") for layer in layers
        ),
        "a decoder layer has no mlp": any(not hasattr(layer, "mlp") for layer in layers),
        "its attention has sinks, which sdpa does not have": any(
            hasattr(getattr(layer, "self_attn", None), "sinks") for layer in layers
        ),
        "it has no lm_head": not hasattr(model, "lm_head"),
        "it has no get_image_features": not hasattr(model, "get_image_features"),
        "its forward takes no encoded images (mm_encoder_outputs)": "mm_encoder_outputs"
        not in _parameter_names(type(model).forward),
    }
    _raise_first(model.config, reasons)


def _raise_first(config: Any, reasons: Mapping[str, bool]) -> None:
    for reason, holds in reasons.items():
        if holds:
            raise InputError(
                f"family 'auto' cannot read this {config.model_type!r} checkpoint: {reason}; "
                "such a model needs a family of its own"
            )


def _decoder(model: Any) -> Any:
    """Return the text side of a model, or None where it is not found."""
    inner = getattr(model, "model", None)
    found = (getattr(inner, name, None) for name in DECODERS)
    return next((decoder for decoder in found if decoder is not None), None)

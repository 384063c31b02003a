"""transformers' own model class with eager attention and full maps, for comparison."""

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from vrp.vlm.batching import VlmInput


class Forward(NamedTuple):
    """What one forward over prompt and answer puts out."""

    n_prompt: int
    attention: np.ndarray
    """(L, H, T, T)."""
    hidden: np.ndarray
    """(L+1, T, d), the last one after the final norm."""
    logits: np.ndarray
    """(T, V)."""
    image_positions: np.ndarray
    """(S,)."""


class EagerReference:
    """A model as transformers runs it, one item at a time, no padding."""

    answer_token_types: ClassVar = {"token_type_ids": 0, "mm_token_type_ids": 0}
    """What the answer's tokens are marked with, where a family marks tokens."""

    def __init__(self, model_class: Any, folder: Path, *, image_token_id: int) -> None:
        self.model: Any = model_class.from_pretrained(folder, attn_implementation="eager").eval()
        self.image_token_id = image_token_id

    def inputs(self, item: VlmInput) -> dict[str, torch.Tensor]:
        """What transformers' own processor makes of the item."""
        raise NotImplementedError

    @torch.inference_mode()
    def generate(self, item: VlmInput, max_new_tokens: int, eos: tuple[int, ...]) -> list[int]:
        """Greedy answer, without end-of-sequence."""
        made = self.inputs(item)
        ids = self.model.generate(
            **made, do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=list(eos)
        )
        answer = ids[0, made["input_ids"].shape[1] :].tolist()
        return answer[:-1] if answer and answer[-1] in eos else answer

    @torch.inference_mode()
    def forward(self, item: VlmInput, answer: tuple[int, ...]) -> Forward:
        """One forward over prompt and answer, with full attention maps."""
        made = self.inputs(item)
        n_prompt = made["input_ids"].shape[1]
        tail = torch.tensor([list(answer)], dtype=torch.long)
        made["input_ids"] = torch.cat([made["input_ids"], tail], dim=1)
        made["attention_mask"] = torch.ones_like(made["input_ids"])
        for types, kind in self.answer_token_types.items():
            if types in made:
                made[types] = torch.cat([made[types], torch.full_like(tail, kind)], dim=1)
        output = self.model(**made, output_attentions=True, output_hidden_states=True)
        image = made["input_ids"][0, :n_prompt] == self.image_token_id
        return Forward(
            n_prompt,
            torch.stack(output.attentions)[:, 0].numpy(),
            torch.stack(output.hidden_states)[:, 0].numpy(),
            output.logits[0].float().numpy(),
            image.nonzero()[:, 0].numpy(),
        )

    @torch.inference_mode()
    def image_values(self, item: VlmInput) -> np.ndarray:
        """(L, H_kv, S, d) values of the image tokens, as the cache holds them."""
        made = self.inputs(item)
        output = self.model(**made, use_cache=True)
        image = made["input_ids"][0] == self.image_token_id
        layers = [layer.values[0][:, image] for layer in output.past_key_values.layers]
        return torch.stack(layers).numpy()


def image_only(processor: type) -> Any:
    """The processor class without its video half, which cannot be made without torchvision."""
    parts = classmethod(lambda cls: ["image_processor", "tokenizer"])
    return type(processor.__name__, (processor,), {"get_attributes": parts})

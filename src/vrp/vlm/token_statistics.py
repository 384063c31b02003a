"""What the logits of one answer token say, in float32: the study's answers and the monitor's."""

import torch

from vrp.vlm.lens import top_two


def likeliest_tokens(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (B,) the likeliest token of each row of raw logits (B, V), and its log-probability."""
    chosen = logits.argmax(-1)
    return chosen, logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(-1)


def token_entropy(log_probabilities: torch.Tensor) -> torch.Tensor:
    """Return (B,) entropy of distributions over tokens, nats; (B, V) log-probabilities."""
    # xlogy semantics: a token of probability zero adds nothing.
    return -(log_probabilities.exp() * log_probabilities.clamp_min(-1e30)).sum(-1)


def top_margin(logits: torch.Tensor) -> torch.Tensor:
    """Return (B,) the highest logit of each row (B, V) minus the second highest."""
    top, runner_up = logits.gather(-1, top_two(logits)).unbind(-1)
    return top - runner_up

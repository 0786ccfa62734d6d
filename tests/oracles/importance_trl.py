"""GRPO with a sampler's correction by definition: one token at a time, no function of the package or of TRL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch


def log_probs(model: Any, batch: dict[str, Any], temperature: float) -> torch.Tensor:
    """[B, T] of each completion alone, without padding; 0 after its end."""
    ids, keep = batch["completion_ids"], batch["completion_mask"]
    out = torch.zeros(ids.shape)
    for b in range(len(ids)):
        prompt = batch["prompt_ids"][b][batch["prompt_mask"][b].bool()]
        completion = ids[b][keep[b].bool()]
        if len(completion) == 0:
            continue
        logits = model(input_ids=torch.cat([prompt, completion])[None]).logits[0] / temperature
        for t, token in enumerate(completion):
            out[b, t] = logits[len(prompt) - 1 + t].log_softmax(-1)[token]
    return out


def weights(name: str, old: np.ndarray, mu: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[B, T] for ``token-tis:C``, ``sequence-tis:C`` and ``token-mask:LOW,HIGH``; 0 outside of the mask."""
    kind, _, bounds = name.partition(":")
    numbers = [float(x) for x in bounds.split(",")]
    out = np.zeros(old.shape)
    for b in range(old.shape[0]):
        steps = [t for t in range(old.shape[1]) if mask[b, t]]
        gaps = [float(old[b, t]) - float(mu[b, t]) for t in steps]
        for t, gap in zip(steps, gaps, strict=True):
            if kind == "token-mask":
                inside = numbers[0] <= math.exp(gap) <= numbers[1]
                out[b, t] = math.exp(gap) if inside else 0.0
            else:
                out[b, t] = min(math.exp(gap if kind == "token-tis" else sum(gaps)), numbers[0])
    return out


def grpo_loss(
    log_pi: torch.Tensor, old: np.ndarray, advantages: torch.Tensor, mask: np.ndarray, weight: np.ndarray, clip: float,
    *, inside: bool,
) -> torch.Tensor:  # fmt: skip
    """Mean over completions of the mean over tokens of ``-w min(r A, clip(r) A)``; ``inside`` is the wrong place."""
    rows = []
    for b in range(len(log_pi)):
        terms = []
        for t in range(log_pi.shape[1]):
            if not mask[b, t]:
                continue
            r, w, a = torch.exp(log_pi[b, t] - float(old[b, t])), float(weight[b, t]), float(advantages[b])
            if inside:
                terms.append(-torch.min(w * r * a, torch.clamp(w * r, 1 - clip, 1 + clip) * a))
            else:
                terms.append(-w * torch.min(r * a, torch.clamp(r, 1 - clip, 1 + clip) * a))
        rows.append(sum(terms) / len(terms))
    return sum(rows) / len(rows)


def diagnostics(batches: list[list[np.ndarray]]) -> dict[str, float]:
    """Of (log pi, log mu, mask) of several batches, as if they were one: lists of all tokens, then means."""
    gaps, changes, sums = [], [], []
    for log_pi, log_mu, mask in batches:
        for b in range(log_pi.shape[0]):
            row = [t for t in range(log_pi.shape[1]) if mask[b, t]]
            own = [float(log_pi[b, t]) - float(log_mu[b, t]) for t in row]
            gaps += own
            changes += [abs(math.exp(log_pi[b, t]) - math.exp(log_mu[b, t])) for t in row]
            sums.append(sum(own))
    ratios, products = np.exp(gaps), np.exp(sums)
    return {
        "k1": -float(np.mean(gaps)),
        "k3": float(np.mean(ratios - 1 - np.array(gaps))),
        "chi2": float(np.mean(ratios**2)) - 1,
        "ess": float(ratios.sum() ** 2 / (len(ratios) * (ratios**2).sum())),
        "ess_sequence": float(products.sum() ** 2 / (len(products) * (products**2).sum())),
        "ratio_mean": float(ratios.mean()),
        "ratio_max": float(ratios.max()),
        "prob_diff": float(np.mean(changes)),
        "prob_diff_max": max(changes),
    }

"""Slow definitions for language models: one full forward per token, one sequence at a time."""

from __future__ import annotations

import numpy as np
import torch


def log_mu(model, prompt, response, mask, temperature):
    """[N, R]: the whole text so far goes through the model again for every token; NaN where the mask is False."""
    found = np.full(response.shape, np.nan)
    with torch.no_grad():
        for i in range(len(prompt)):
            for t in range(response.shape[1]):
                if mask[i, t]:
                    text = torch.as_tensor(np.concatenate((prompt[i], response[i, :t])))[None]
                    logits = model(text)[0, -1].double() / temperature
                    found[i, t] = (logits - torch.logsumexp(logits, 0))[response[i, t]].item()
    return found


def answer(task_id, prompt):
    """The right answer to a written prompt, as text."""
    question = prompt.rstrip("=")
    if task_id == "lm:sort-digits":
        return "".join(sorted(question))
    if task_id == "lm:reverse":
        return question[::-1]
    if task_id == "lm:copy":
        return question
    left, right = question.split("+")
    return str(int(left) + int(right)).zfill(len(left) + 1)


def grpo_gradient(model, tokens, advantage, weight, log_old, *, temperature, clip, rows):
    """Gradient by parameter of ``-sum_t w min(rA, clip(r)A) / number of tokens``, one sequence after the other."""
    count = int(tokens.mask[rows].sum())
    for parameter in model.parameters():
        parameter.grad = None
    for i in rows:
        for t in range(tokens.response.shape[1]):
            if not tokens.mask[i, t]:
                continue
            text = torch.as_tensor(np.concatenate((tokens.prompt[i], tokens.response[i, :t])))[None]
            log_pi = torch.log_softmax(model(text)[0, -1] / temperature, -1)[int(tokens.response[i, t])]
            ratio = torch.exp(log_pi - float(log_old[i, t]))
            a = float(advantage[i])
            gain = min(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
            (-float(weight[i, t]) * gain / count).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}

#!/usr/bin/env python3
"""How often a temperature is named that is there, and one that is not: docs/importance.md.

    python benchmarks/temperature_warning.py

Four families of policies. ``lm``: Llamas of 100,000 parameters that learn a task, 2 seeds, 2 tasks, after 40, 100 and
300 supervised steps, 128 completions each. ``mlp``: control policies 8-64-64-A with random weights, 2, 6
and 18 actions, nearly uniform to nearly certain, 2,048 actions each. ``mixed``: 3, 12 and 200 tokens, the logits of
each context normal times a scale between 0.3 and 8. ``two``: 70 % of the contexts with a scale of 9, the others with 1;
1,200 tokens each. Samplers differ from the learner by a temperature (some with rounding or noise beside it), or by
rounding, noise or old weights alone. A cell is the share of batches that `frugalrl.importance.find` calls a temperature
mismatch, and how many there were.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frugalrl.envs.lm import Task, find_task, train_prompts
from frugalrl.importance import correct
from frugalrl.nets.config import TokenNetConfig
from frugalrl.nets.token_model import TokenModel, build_token_model
from frugalrl.policies.tokens import TokenPolicy, log_policy, log_probs
from frugalrl.policies.transforms.rounding import round_rows
from frugalrl.types import PolicySnapshot

Floats = NDArray[Any]
Batch = tuple[str, str, Floats, Floats]
"""Family, sampler, log pi, log mu."""
STAGES = (40, 100, 300)
SAMPLERS: dict[str, tuple[str, float, float]] = {
    "T 0.8": ("none", 0.8, 1.0), "T 0.9": ("none", 0.9, 1.0), "T 1.1": ("none", 1.1, 1.0),
    "T 1.25": ("none", 1.25, 1.0), "learner at T 0.8": ("none", 1.0, 0.8), "T 0.8 and 4 bits": ("int4", 0.8, 1.0),
    "bf16": ("bf16", 1.0, 1.0), "int8": ("int8", 1.0, 1.0), "4 bits": ("int4", 1.0, 1.0), "3 bits": ("int3", 1.0, 1.0),
    "2 bits": ("int2", 1.0, 1.0), "weight noise 0.2": ("noise:0.2", 1.0, 1.0), "10 updates old": ("old", 1.0, 1.0),
}  # fmt: skip
"""Transform, temperature of the sampler, temperature of the learner."""


def log_softmax(z: Floats) -> Floats:
    z = z - z.max(-1, keepdims=True)
    found: Floats = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return found


def drawn(family: str, name: str, learner: Floats, sampler: Floats, rng: np.random.Generator) -> Batch:
    """One draw of the sampler in each context; logits [contexts, A]."""
    log_pi, log_mu = log_softmax(learner), log_softmax(sampler)
    action = (log_mu + rng.gumbel(size=log_mu.shape)).argmax(-1)[:, None]
    return family, name, *(np.take_along_axis(x, action, 1)[:, 0].astype(np.float32) for x in (log_pi, log_mu))


def temperatures(family: str, z: Floats, rng: np.random.Generator) -> Iterator[Batch]:
    for t in (0.8, 0.9, 1.1, 1.25):
        yield drawn(family, f"T {t:g}", z, z / t, rng)
    yield drawn(family, "learner at T 0.8", z / 0.8, z, rng)


def tables(seed: int) -> Iterator[Batch]:
    """Logits drawn at random."""
    rng, n = np.random.default_rng(seed), 1200
    for vocabulary in (3, 12, 200):
        for family in ("mixed", "two"):
            log_scale = rng.uniform(np.log(0.3), np.log(8.0), (n, 1))
            scale = np.exp(log_scale) if family == "mixed" else np.where(rng.random((n, 1)) < 0.7, 9.0, 1.0)
            z = scale * rng.normal(size=(n, vocabulary))
            yield from temperatures(family, z, rng)
            for sigma in (0.05, 0.2, 0.8):
                yield drawn(family, f"logit noise {sigma:g}", z, z + sigma * rng.normal(size=z.shape), rng)
            yield drawn(family, "T 0.8 and logit noise 0.2", z, (z + 0.2 * rng.normal(size=z.shape)) / 0.8, rng)


def control(seed: int) -> Iterator[Batch]:
    """A random network's weights, rounded."""
    for actions in (2, 6, 18):
        for gain in (3.0, 8.0, 20.0):
            rng = np.random.default_rng((actions, int(gain), seed))
            layers = [
                size * rng.normal(size=(n, m)) / np.sqrt(n)
                for n, m, size in ((8, 64, 1.5), (64, 64, 1.5), (64, actions, gain))
            ]
            x = rng.normal(size=(2048, 8))
            z = logits(layers, x)
            yield from temperatures("mlp", z, rng)
            for bits in (4, 3, 2):
                coarse = [round_rows(torch.from_numpy(w.T), bits).numpy().T for w in layers]
                yield drawn("mlp", f"{bits} bits", z, logits(coarse, x), rng)
                if bits == 4:
                    yield drawn("mlp", "T 0.8 and 4 bits", z, logits(coarse, x) / 0.8, rng)


def logits(layers: list[Floats], x: Floats) -> Floats:
    for weight in layers[:-1]:
        x = np.tanh(x @ weight)
    return x @ layers[-1]


def language(task: Task, seed: int) -> Iterator[Batch]:
    """A Llama at three stages of its supervised training."""
    torch.manual_seed(seed)
    longest = task.prompt_tokens + task.answer_tokens

    def build() -> TokenModel:
        return build_token_model(TokenNetConfig(), vocabulary=len(task.vocabulary), longest=longest)

    model = build()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    kept: dict[int, dict[str, torch.Tensor]] = {}
    for step in range(max(STAGES) + 1):
        kept[step] = {name: p.detach().clone() for name, p in model.named_parameters()}
        kept.pop(step - 11, None)
        if step in STAGES:
            yield from sampled(task, build, kept[step], kept[step - 10], seed)
        prompt = train_prompts(task, seed, 48 * step, 48)
        right = torch.as_tensor(task.answer(prompt))
        loss = -log_probs(log_policy(model, torch.as_tensor(prompt), right, 1.0), right).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def sampled(task: Task, build: Any, now: dict[str, Any], old: dict[str, Any], seed: int) -> Iterator[Batch]:
    learner = build()
    learner.load_state_dict(now, strict=False)
    prompt = np.repeat(train_prompts(task, seed + 100, 0, 64), 2, axis=0)
    for name, (transform, of_sampler, of_learner) in SAMPLERS.items():
        policy = TokenPolicy(
            build, torch.device("cpu"), prompt_tokens=task.prompt_tokens, response_tokens=task.answer_tokens,
            end=task.end, temperature=of_sampler, seed=seed, transform="none" if transform == "old" else transform,
        )  # fmt: skip
        policy.load(PolicySnapshot(version=1, parameters=old if transform == "old" else now))
        made = policy.generate(prompt, 0)
        response = torch.as_tensor(made.response)
        log_pi = log_probs(log_policy(learner, torch.as_tensor(prompt), response, of_learner), response)
        yield "lm", name, log_pi.numpy(), made.log_mu


def batches(seeds: int) -> Iterator[Batch]:
    for seed in range(seeds):
        yield from tables(seed)
        yield from control(seed)
    for seed in range(2):
        for name in ("lm:sort-digits", "lm:addition"):
            yield from language(find_task(name), seed)


def named(log_pi: Floats, log_mu: Floats) -> bool:
    return "temperature mismatch" in [w.name for w in correct(log_pi, log_mu, high=2.0).warnings]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="of the policies that are not trained")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[bool]]] = {}
    for family, sampler, log_pi, log_mu in batches(seeds):
        found.setdefault(sampler, {}).setdefault(family, []).append(named(log_pi, log_mu))
    families = ("lm", "mlp", "mixed", "two")
    print(f"| sampler | {' | '.join(families)} |")
    print("|---" * (1 + len(families)) + "|")
    for sampler in sorted(found, key=lambda name: ("T " not in name, name)):
        cells = [found[sampler].get(family) for family in families]
        print(f"| {sampler} | {' | '.join(f'{sum(c)} of {len(c)}' if c else '' for c in cells)} |")


if __name__ == "__main__":
    main()

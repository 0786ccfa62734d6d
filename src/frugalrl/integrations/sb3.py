"""Counteractive exploration and cheaper samplers for Stable-Baselines3::

    from frugalrl.integrations.sb3 import CorrectedPPO, CounteractiveDQN

    CounteractiveDQN("MlpPolicy", "CartPole-v1").learn(50_000)
    CorrectedPPO("MlpPolicy", "CartPole-v1", sampler_transform="int4", correction="token-tis:2").learn(50_000)

Both take every argument of the class they stand for. `Counteracts` and `SamplesFromCopy` are the mixins: put one before
a class of your own (``class Mine(Counteracts, sb3_contrib.QRDQN)``). Stable-Baselines3 is imported when one of the two
classes is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frugalrl.importance import Correction, apply, measure
from frugalrl.integrations.hooks import as_correction, as_transform, as_uniform_share, copy_buffers, needed
from frugalrl.math.explore import mixture
from frugalrl.policies.transforms import Transformer
from frugalrl.types import PolicySnapshot, UserError

if TYPE_CHECKING:
    CorrectedPPO: Any
    CounteractiveDQN: Any


class Counteracts:
    """The exploratory action is a minimiser of Q instead of a random one: CoAct TD (arXiv 2603.15871, algorithm 1).

    For Stable-Baselines3's DQN and sb3-contrib's QRDQN, where Q is the mean over quantiles. Two things differ from
    their own exploration beside the action: every environment decides for itself whether to explore (there one draw
    decides for all of a step), and the network is evaluated in exploring steps too. ``exploration_fraction``,
    ``exploration_final_eps`` and ``learning_starts`` mean what they mean there; actions before ``learning_starts`` stay
    uniform. The last keyword argument is ``uniform_share``, the share of exploratory actions that are uniform: 0 is
    counteractive, 1 epsilon-greedy. Randomness is numpy's global stream, as there.
    """

    policy: Any
    exploration_rate: float

    def __init__(self, *args: Any, uniform_share: float = 0.0, **kwargs: Any) -> None:
        """Raises UserError for a share outside of [0, 1], and for an algorithm without a Q-value of each action."""
        self.uniform_share = as_uniform_share(uniform_share)
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        """Raises UserError where the policy has no Q-values, and for a share that load() was given."""
        self.uniform_share = as_uniform_share(self.uniform_share)
        super()._setup_model()  # type: ignore[misc]
        if not hasattr(self.policy, "q_net") and not hasattr(self.policy, "quantile_net"):
            raise UserError(
                f"Counteracts goes before DQN or sb3-contrib's QRDQN, but the policy of {type(self).__name__} "
                f"({type(self.policy).__name__}) has no Q-value of each action"
            )

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Actions for one observation or a batch, and ``state`` unchanged; ``deterministic`` takes argmax Q.

        Raises:
            FloatingPointError: a Q-value is NaN or infinite, so the network has diverged.
        """
        if deterministic:
            greedy: tuple[Any, Any] = super().predict(observation, state, episode_start, True)  # type: ignore[misc]
            return greedy
        q, vectorized = self._q_values(observation)
        eps = np.full(len(q), self.exploration_rate)
        # numpy's global stream, as Stable-Baselines3's own exploration, so that its set_random_seed holds here too
        uniform = np.random.random((len(q), 3))  # noqa: NPY002
        action = mixture(q, eps, uniform, self.uniform_share).action
        return (action if vectorized else action[0]), state

    def _q_values(self, observation: Any) -> tuple[Any, bool]:
        """[B, A] Q-values, and whether the observation was a batch."""
        self.policy.set_training_mode(False)
        tensor, vectorized = self.policy.obs_to_tensor(observation)
        with torch.no_grad():
            quantiles = getattr(self.policy, "quantile_net", None)
            # quantiles: [B, number of quantiles, A]
            q = self.policy.q_net(tensor) if quantiles is None else quantiles(tensor).mean(dim=1)
        return q.cpu().numpy(), vectorized


class SamplesFromCopy:
    """PPO whose rollouts come from a copy of the policy with cheaper or older weights, corrected by a truncated ratio.

    The last keyword arguments are ``sampler_transform`` (``frugal list transforms``: int8, int4, bf16, stale:4, ...; an
    age counts rollouts) and ``correction``, a short name or a `frugalrl.importance.Correction` of steps. The weight
    multiplies the advantages after they were normalised, over the rollout and not per minibatch as in PPO itself, and
    PPO's own ratio has the learner below the line (three policies). ``none`` does all this with a weight of 1;
    ``ppo-denominator`` leaves the sampler below the line. Logs ``mismatch/k3``, ``mismatch/ess`` and
    ``mismatch/ratio_max``. The values in the rollout are those of the copy as well; no ratio corrects them. Callbacks
    see the learner, which they save and evaluate; buffers of layers (running means) are the learner's in the copy.
    For PPO and sb3-contrib's MaskablePPO.
    """

    policy: Any
    action_space: Any
    rollout_buffer: Any
    logger: Any
    batch_size: int
    device: Any
    normalize_advantage: bool

    def __init__(
        self,
        *args: Any,
        sampler_transform: str = "int8",
        correction: str | Correction = "token-tis:2",
        **kwargs: Any,
    ) -> None:
        """Raises UserError for an unknown transform or correction, for one that is not of single steps, and for an
        algorithm that learns from whole sequences or without PPO's ratio."""
        self.sampler_transform = as_transform(sampler_transform, "sampler_transform")
        self.correction = of_steps(as_correction(correction))
        self.rollouts = 0
        super().__init__(*args, **kwargs)
        if not hasattr(self, "clip_range") or hasattr(self, "_last_lstm_states"):
            raise UserError(
                f"SamplesFromCopy goes before PPO or sb3-contrib's MaskablePPO, but {type(self).__name__} is no PPO on "
                f"single steps"
            )

    def _setup_model(self) -> None:
        """Raises UserError for what load() was given, which replaces what the constructor checked."""
        self.sampler_transform = as_transform(self.sampler_transform, "sampler_transform")
        self.correction = of_steps(as_correction(self.correction))
        super()._setup_model()  # type: ignore[misc]

    def collect_rollouts(self, env: Any, callback: Any, *args: Any, **kwargs: Any) -> bool:
        """As in PPO, but the copy acts; while a callback is at work, ``policy`` is the learner again."""
        learner = self.policy
        with self._policy_is(self._sampler(learner)):
            callback = ForLearner(callback, lambda: self._policy_is(learner))
            going_on: bool = super().collect_rollouts(env, callback, *args, **kwargs)  # type: ignore[misc]
        self.rollouts += 1
        return going_on

    @contextmanager
    def _policy_is(self, policy: Any) -> Iterator[None]:
        before, self.policy = self.policy, policy
        try:
            yield
        finally:
            self.policy = before

    def train(self) -> None:
        """As in PPO, on weighted advantages."""
        buffer = self.rollout_buffer
        log_pi, log_mu = self._log_probs_of_learner(), buffer.log_probs
        self.correction = of_steps(as_correction(self.correction))  # may have been set since
        # a density may be above 1, so its logarithm is not checked
        c = apply(self.correction, log_pi, log_mu, check=False)
        metrics = measure(c).metrics()
        for key in ("k3", "ess", "ratio_max"):
            self.logger.record(f"mismatch/{key}", metrics[f"mismatch_{key}"])
        normalize = self.normalize_advantage
        if normalize:
            centred = buffer.advantages - buffer.advantages.mean()
            buffer.advantages = centred / (buffer.advantages.std() + 1e-8)
        buffer.advantages = (buffer.advantages * c.weight).astype(np.float32)
        if self.correction.denominator == "old":
            buffer.log_probs = log_pi
        # PPO's own normalisation comes after the weight and would take out what it did to the mean; the user's setting
        # stays where PPO keeps it, as load() sets it there and a PPO reads it from what was saved
        self.normalize_advantage = False
        try:
            super().train()  # type: ignore[misc]
        finally:
            self.normalize_advantage = normalize

    def _sampler(self, learner: Any) -> Any:
        learner = getattr(learner, "_orig_mod", learner)  # of torch.compile
        transformer = self.__dict__.get("_transformer")
        if transformer is None:
            transformer = self._transformer = Transformer(acting_twin(learner), self.sampler_transform)
            answer_in_float32(transformer.module)
        transformer.load(PolicySnapshot(version=self.rollouts, parameters=dict(learner.named_parameters())))
        loose_in_float32(transformer.module)
        copy_buffers(learner, transformer.module)
        return transformer.module

    def _log_probs_of_learner(self) -> Any:
        """[n_steps, n_envs] float32, a minibatch at a time."""
        buffer = self.rollout_buffer
        self.policy.set_training_mode(False)
        steps, envs = buffer.log_probs.shape
        masks = getattr(buffer, "action_masks", None)
        parts = []
        with torch.no_grad():
            for i in range(0, steps * envs, self.batch_size):
                # as PPO's own minibatches have them: indices only where there is one Discrete action
                taken = self._rows(buffer.actions, i).float()
                if np.issubdtype(self.action_space.dtype, np.integer) and not self.action_space.shape:
                    taken = taken.long().flatten()
                seen = buffer.observations
                seen = {k: self._rows(v, i) for k, v in seen.items()} if isinstance(seen, dict) else self._rows(seen, i)
                masked = {} if masks is None else {"action_masks": self._rows(masks, i)}
                parts.append(self.policy.evaluate_actions(seen, taken, **masked)[1].float().cpu().numpy())
        return np.concatenate(parts).reshape(steps, envs)

    def _rows(self, array: Any, first: int) -> Any:
        """A minibatch of an array [n_steps, n_envs, ...] as a tensor."""
        flat = array.reshape(-1, *array.shape[2:])
        return torch.as_tensor(flat[first : first + self.batch_size], device=self.device)

    def _excluded_save_params(self) -> list[str]:
        # older weights too: after load() an age grows anew
        excluded: list[str] = super()._excluded_save_params()  # type: ignore[misc]
        return [*excluded, "_transformer"]


class ForLearner:
    """A callback of Stable-Baselines3 that finds the learner in its model."""

    def __init__(self, callback: Any, learner_in_place: Any) -> None:
        """``learner_in_place`` gives a context in which the model's policy is the learner."""
        self._callback, self._learner_in_place = callback, learner_in_place

    def on_rollout_start(self) -> None:
        with self._learner_in_place():
            self._callback.on_rollout_start()

    def on_step(self) -> bool:
        with self._learner_in_place():
            going_on: bool = self._callback.on_step()
            return going_on

    def on_rollout_end(self) -> None:
        with self._learner_in_place():
            self._callback.on_rollout_end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callback, name)


def acting_twin(policy: Any) -> Any:
    """A copy of a policy without its optimizer and without what its action distribution keeps of the last pass, which
    has no copy."""
    distribution = copy.copy(policy.action_dist)
    for name, value in vars(distribution).items():
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, torch.Tensor | torch.distributions.Distribution):
            setattr(distribution, name, None)
    return copy.deepcopy(policy, {id(policy.action_dist): distribution, id(policy.optimizer): None})


def answer_in_float32(policy: torch.nn.Module) -> None:
    """Layers in bfloat16 take and give float32, as the distributions and buffers around them expect."""
    for layer in policy.modules():
        if any(p.dtype == torch.bfloat16 for p in layer.parameters(recurse=False)) and not len(list(layer.children())):
            layer.register_forward_pre_hook(in_bfloat16)
            layer.register_forward_hook(lambda _, args, out: out.float())


def loose_in_float32(policy: torch.nn.Module) -> None:
    """In a policy of bfloat16, what no layer holds (``log_std``) has bfloat16's values in float32: distributions use it
    beside what layers answer. New weights come unrounded, so this is done after each load."""
    if all(p.dtype != torch.bfloat16 for p in policy.parameters()):
        return
    for module in policy.modules():
        if len(list(module.children())):
            for p in module.parameters(recurse=False):
                p.data = p.data.bfloat16().float()


def in_bfloat16(_: Any, args: Any) -> Any:
    """Indices stay what they are."""
    return tuple(x.to(torch.bfloat16) if x.is_floating_point() else x for x in args)


def of_steps(correction: Correction) -> Correction:
    """Raises UserError for a correction of sequences: an advantage depends on what follows a step, not on the steps
    before it."""
    if correction.level not in ("token", None) or correction.reject is not None:
        raise UserError(
            f"the correction of a PPO with one action per step is one of steps (token-tis:2, token-mask:0.5,5, "
            f"vanilla, ppo-denominator, none), but is {correction.name()!r}"
        )
    return correction


@cache
def _made(name: str) -> Any:
    sb3 = needed("stable_baselines3", "frugalrl.integrations.sb3", "sb3")
    mixin, base = (SamplesFromCopy, sb3.PPO) if name == "CorrectedPPO" else (Counteracts, sb3.DQN)
    return type(name, (mixin, base), {"__doc__": mixin.__doc__, "__module__": __name__})


def __getattr__(name: str) -> Any:
    if name in ("CorrectedPPO", "CounteractiveDQN"):
        return _made(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Evaluation and training protocols: objects that set every choice between a game and its score.

Two scores can be compared only when all of these choices agree, so a protocol has no defaults: every field is
written down in every protocol, and ``None`` means "as the environment itself has it", not "forgotten".
A protocol of your own is ``dataclasses.replace(named_protocol("plain"), name="mine", max_episode_steps=200)``.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from frugalrl.envs.lm import is_task
from frugalrl.types import UserError

Suite = Literal["ale", "minatar", "any", "lm"]
"""Which environments a protocol can be applied to."""

_ALE_ONLY = ("frame_skip", "frame_stack", "screen_size", "grayscale", "max_pool", "noop_max", "fire_reset")


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """All that stands between an environment id and the numbers reported for it."""

    name: str
    """Printed with every score."""
    suite: Suite
    """``ale`` needs an ``ALE/`` id, ``minatar`` a ``MinAtar/`` id, ``lm`` an ``lm:`` task; ``any`` leaves emulator
    settings alone."""
    sticky_probability: float | None
    """Probability in [0, 1] that the environment repeats the previous action."""
    life_loss_ends_return: bool
    """While training, a lost life has discount 0; the game goes on (``last`` stays False)."""
    noop_max: int | None
    """At most this many random no-ops (emulator frames) before an episode's first observation."""
    max_episode_steps: int | None
    """Time limit in agent steps. No-ops do not count."""
    frame_skip: int | None
    """Emulator frames per agent step."""
    frame_stack: int | None
    """Frames in one observation; before the first frame of an episode the stack holds zeros."""
    screen_size: int | None
    """Height and width of an observation in pixels."""
    grayscale: bool | None
    max_pool: bool | None
    """Maximum over the last two frames of a step, against flicker."""
    full_action_space: bool | None
    """All 18 actions of the console instead of those the game reads."""
    fire_reset: bool | None
    """Press FIRE at the start of an episode in games that wait for it."""
    difficulty_ramping: bool | None
    """MinAtar games grow harder with time."""
    clip_reward: bool
    """Clip each reward to [-1, 1] while training. Reported returns are never clipped."""
    eval_epsilon: float
    """Share of uniform random actions of the evaluated policy."""
    eval_episodes: int
    """Episodes of one evaluation while training."""
    final_eval_episodes: int
    """Episodes of ``frugal eval``, the score to publish."""
    eval_max_steps: int | None
    """Time limit of an evaluation episode in agent steps; the shorter of it and ``max_episode_steps`` holds."""
    source: str
    """Where these choices come from, and which of them are our own."""

    def __post_init__(self) -> None:
        for field in ("sticky_probability", "eval_epsilon"):
            share = getattr(self, field)
            if share is not None and not 0.0 <= share <= 1.0:
                raise UserError(f"Protocol {self.name}: {field}={share} is not a probability; use a value in [0, 1].")
        for field in ("max_episode_steps", "eval_max_steps", "frame_skip", "frame_stack", "screen_size"):
            count = getattr(self, field)
            if count is not None and count < 1:
                raise UserError(f"Protocol {self.name}: {field}={count} must be at least 1, or None to leave it alone.")
        for field in ("eval_episodes", "final_eval_episodes"):
            if getattr(self, field) < 1:
                raise UserError(f"Protocol {self.name}: {field}={getattr(self, field)} must be at least 1.")
        self._check_suite()

    def _check_suite(self) -> None:
        if self.suite == "ale":
            missing = [f for f in (*_ALE_ONLY, "sticky_probability", "full_action_space") if getattr(self, f) is None]
            if missing:
                raise UserError(f"Protocol {self.name} is for ALE games but leaves {', '.join(missing)} open; set it.")
            return
        allowed = ("sticky_probability", "difficulty_ramping") if self.suite == "minatar" else ()
        closed = (*_ALE_ONLY, "sticky_probability", "full_action_space", "difficulty_ramping")
        extra = [f for f in closed if f not in allowed and getattr(self, f) is not None]
        if extra:
            raise UserError(
                f"Protocol {self.name} (suite {self.suite!r}) sets {', '.join(extra)}, which only an emulator "
                f"protocol can apply; set it to None."
            )

    def step_limit(self, *, training: bool) -> int | None:
        """Time limit in agent steps of a training or an evaluation episode; None where only the environment ends it."""
        limits = [self.max_episode_steps] if training else [self.max_episode_steps, self.eval_max_steps]
        return min((limit for limit in limits if limit is not None), default=None)


_ATARI_100K = Protocol(
    name="atari100k",
    suite="ale",
    sticky_probability=0.0,
    life_loss_ends_return=True,
    noop_max=30,
    max_episode_steps=27_000,
    frame_skip=4,
    frame_stack=4,
    screen_size=84,
    grayscale=True,
    max_pool=True,
    full_action_space=False,
    fire_reset=False,
    difficulty_ramping=None,
    clip_reward=True,
    eval_epsilon=0.001,
    eval_episodes=10,
    final_eval_episodes=100,
    eval_max_steps=27_000,
    source=(
        "Kaiser et al. 2020 (SimPLe, 100,000 agent steps = 400,000 frames) with the settings of Dopamine's Atari 100k "
        "configurations: no sticky actions, terminal on life loss in training, 27,000 agent steps per episode "
        "(108,000 frames), 30 no-ops, evaluation epsilon 0.001, 100 episodes after training. "
        "Our own: 10 episodes while training; no FIRE at reset."
    ),
)

_ALE_STICKY = Protocol(
    name="ale-sticky",
    suite="ale",
    sticky_probability=0.25,
    life_loss_ends_return=False,
    noop_max=0,
    max_episode_steps=27_000,
    frame_skip=4,
    frame_stack=4,
    screen_size=84,
    grayscale=True,
    max_pool=True,
    full_action_space=True,
    fire_reset=False,
    difficulty_ramping=None,
    clip_reward=True,
    eval_epsilon=0.001,
    eval_episodes=10,
    final_eval_episodes=100,
    eval_max_steps=27_000,
    source=(
        "Machado et al. 2018, Revisiting the Arcade Learning Environment: sticky actions 0.25, no life-loss signal, "
        "all 18 actions, no no-ops. The limit of 27,000 agent steps is 108,000 frames (30 minutes of play); some "
        "papers use 5 minutes, which is max_episode_steps=4_500 (18,000 frames). The paper reports returns while "
        "learning; a separate evaluation with epsilon 0.001 and its number of episodes are our own choice."
    ),
)

_MINATAR = Protocol(
    name="minatar",
    suite="minatar",
    sticky_probability=0.1,
    life_loss_ends_return=False,
    noop_max=None,
    max_episode_steps=5_000,
    frame_skip=None,
    frame_stack=None,
    screen_size=None,
    grayscale=None,
    max_pool=None,
    full_action_space=None,
    fire_reset=None,
    difficulty_ramping=True,
    clip_reward=False,
    eval_epsilon=0.001,
    eval_episodes=10,
    final_eval_episodes=100,
    eval_max_steps=5_000,
    source=(
        "Young and Tian 2019, MinAtar: sticky actions 0.1 and difficulty ramping are its defaults; the id chooses the "
        "actions (v0 all six, v1 those the game reads). Its environments have no time limit: 5,000 agent steps "
        "(a truncation, which bootstraps) and the evaluation settings are our own choice."
    ),
)

_PLAIN = Protocol(
    name="plain",
    suite="any",
    sticky_probability=None,
    life_loss_ends_return=False,
    noop_max=None,
    max_episode_steps=None,
    frame_skip=None,
    frame_stack=None,
    screen_size=None,
    grayscale=None,
    max_pool=None,
    full_action_space=None,
    fire_reset=None,
    difficulty_ramping=None,
    clip_reward=False,
    eval_epsilon=0.0,
    eval_episodes=10,
    final_eval_episodes=100,
    eval_max_steps=27_000,
    source=(
        "The environment as registered, nothing changed while training. Evaluation is greedy; its limit of 27,000 "
        "agent steps only keeps an environment without a time limit from running for ever."
    ),
)

EXACT_MATCH = "lm-exact-match"
_EXACT_MATCH = Protocol(
    name=EXACT_MATCH,
    suite="lm",
    sticky_probability=None,
    life_loss_ends_return=False,
    noop_max=None,
    max_episode_steps=None,
    frame_skip=None,
    frame_stack=None,
    screen_size=None,
    grayscale=None,
    max_pool=None,
    full_action_space=None,
    fire_reset=None,
    difficulty_ramping=None,
    clip_reward=False,
    eval_epsilon=0.0,
    eval_episodes=512,
    final_eval_episodes=2_048,
    eval_max_steps=None,
    source=(
        "Our own: the share of held-out prompts whose completion is the whole right answer, one completion of each, "
        "sampled at temperature 1 from the learner's weights in its own precision; prompts and draws are those of the "
        "evaluation's seed, the same for every evaluation and method."
    ),
)

PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (_ATARI_100K, _ALE_STICKY, _MINATAR, _PLAIN, _EXACT_MATCH)}
"""The named protocols."""


def named_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        UserError: no such protocol; the sentence holds the nearest name.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    near = difflib.get_close_matches(name, PROTOCOLS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(PROTOCOLS)}"
    raise UserError(f"Unknown protocol {name!r}; {hint}")


def default_protocol(env_id: str) -> str:
    """Name of the protocol an environment id gets when none is asked for."""
    if is_task(env_id):
        return EXACT_MATCH
    bare = env_id.rsplit(":", 1)[-1]
    if bare.startswith("ALE/"):
        return "atari100k"
    return "minatar" if bare.startswith("MinAtar/") else "plain"

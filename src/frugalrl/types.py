"""The records that flow through FrugalRL. Every arrow between two parts is one of these types.

Data path: ``envs -> sampling -> (replay) -> run.loop -> algos -> snapshot -> policies -> sampling``.

Array fields are numpy on the sampler's side, numpy or torch on the learner's; neither torch nor frugalrl is imported.
Shapes: ``B`` environment rows (or batch entries), ``T`` time, ``A`` actions.
Times: ``x_tm1`` belongs to the step before, ``x_t`` to the step after an action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Array = Any
"""A numpy array or a torch tensor; which one is said where it is used."""
StateDict = dict[str, Any]
"""Nested ``dict[str, ...]``. Leaves: arrays and tensors (for safetensors), scalars of JSON or lists of them."""

Role = Literal[
    "environment", "inference", "learner", "target", "replay", "correction", "transport", "evaluation", "probe",
    "startup", "checkpoint", "reporting", "waiting", "redone", "unassigned",
]  # fmt: skip
ROLES: tuple[Role, ...] = get_args(Role)

How = Literal["measured", "counted", "modelled", "assumed"]
"""How a number was obtained, strongest first. A total is only as strong as its weakest part."""
HOWS: tuple[How, ...] = ("measured", "counted", "modelled", "assumed")


class UserError(Exception):
    """Wrong usage: one sentence that says what is wrong, the value seen and what to do. Exit code 2."""


class RunFailed(Exception):
    """A run that cannot go on: one sentence, nothing lost. Exit code 1."""


class EnvFailed(RunFailed):
    """An environment raised, or gave what no environment may give. The run's own state is whole."""


class EngineFailed(RunFailed):
    """The process that samples for a learner has died or answers nonsense. The run's own state is whole."""


class SamplerNotFinite(FloatingPointError):
    """What acts answered with NaN or infinity although the learner's weights are finite: the run's state is whole."""


class BadBatch(RunFailed):
    """What the sampler recorded in the batch ``replayed`` cannot be used. The weights were not changed."""

    def __init__(self, message: str, replayed: Replayed | ReplayedUnrolls | ReplayedTokens) -> None:
        super().__init__(message)
        self.replayed = replayed


class NonFiniteLoss(BadBatch):
    """The loss is NaN or infinite; ``replayed`` is the batch that made it. The weights were not changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one piece of work used. ``None`` means not measured, never zero."""

    calls: int | None = None
    """How often the work was done (forward passes, gradient steps, ...)."""
    env_steps: int | None = None
    """Agent steps: valid transitions, not calls of ``step``."""
    frames: int | None = None
    """Emulator frames."""
    updates: int | None = None
    """Gradient steps."""
    cpu_s: float | None = None
    """CPU-seconds, native threads included."""
    busy_s: float | None = None
    """Wall seconds during which the loop was in this role."""
    gpu_s: float | None = None
    """GPU busy seconds."""
    flop: float | None = None
    """Matrix-multiply and convolution FLOPs (a multiply-add is two); element-wise work is not counted."""
    bytes_min: float | None = None
    """Lower bound on bytes moved: weights, inputs and outputs once per call."""
    energy_j: float | None = None
    """Joules from a counter; a modelled figure is made in the bill, not here."""

    def __add__(self, other: Cost) -> Cost:
        """Adds field by field; ``None + x`` is ``x``, so one missing part does not wipe a sum."""
        return Cost(**{f.name: _add(getattr(self, f.name), getattr(other, f.name)) for f in fields(Cost)})


def _add(a: Any, b: Any) -> Any:
    if a is None:
        return b
    return a if b is None else a + b


Costs = Mapping[str, Cost]
"""Costs by role."""


def merge_costs(parts: Iterable[Costs]) -> dict[str, Cost]:
    """Sums costs role by role."""
    total: dict[str, Cost] = {}
    for part in parts:
        for role, cost in part.items():
            total[role] = total[role] + cost if role in total else cost
    return total


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvSpec:
    """What the rest needs to know about an environment after its protocol was applied."""

    id: str
    protocol: str
    obs_kind: Literal["vector", "image", "index"]
    """``index`` observations are int64 scalars; ``image`` is channels first, after the frame stack if any."""
    obs_shape: tuple[int, ...]
    """Shape of one observation; ``()`` for an index."""
    obs_dtype: str
    num_actions: int
    frame_stack: int = 1
    """Number of stacked frames on axis 0 of the observation. Before an episode's first frame the stack holds zeros."""
    num_indices: int | None = None
    """Number of states of an ``index`` observation."""
    frames_per_step: int = 1
    """Emulator frames per agent step."""
    binary: bool = False
    """A uint8 ``image`` of zeros and ones: taken as it is where a torso for large images divides others by 255."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished episode of one row; the return is the raw one, never clipped."""

    row: int
    seed: int
    raw_return: float
    length: int
    """Agent steps."""
    truncated: bool


@dataclass(frozen=True, slots=True)
class Step:
    """What an environment answers: all rows once. Autoreset is NEXT_STEP.

    After a row with ``last`` comes one row with ``valid = False`` that leads from the final to the first
    observation; it is not a transition.
    """

    obs: Array
    """[B, *obs_shape], in the space's dtype."""
    reward: Array
    """[B] float32, as the learner sees it (clipped where the protocol says so)."""
    discount: Array
    """[B] float32, 0 or 1: whether the return goes on. A time limit has discount 1."""
    last: Array
    """[B] bool: a real reset follows (game over or time limit)."""
    valid: Array
    """[B] bool: this row is a transition."""
    episodes: tuple[Episode, ...] = ()
    """Episodes that ended with this step."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A time-major block of steps with the actions that led to them: what a sampler hands to a replay.

    ``obs[t]`` was reached from ``obs[t-1]`` (the row before, possibly of an earlier block) by ``action[t]``.
    """

    obs: Array
    """[T, B, *obs_shape]"""
    action: Array
    """[T, B] int64"""
    reward: Array
    """[T, B] float32"""
    discount: Array
    """[T, B] float32"""
    last: Array
    """[T, B] bool"""
    valid: Array
    """[T, B] bool"""
    log_mu: Array
    """[T, B] float32: log-probability with which ``action`` was chosen; NaN where it was not computed."""
    version: Array
    """[T, B] int64: version of the snapshot that acted."""
    explored: Array
    """[T, B] bool: the action came from the exploration branch."""
    state: Mapping[str, Array] = field(default_factory=dict)
    """Recurrent policies only: ``state[name][t]`` [T, B, ...] is what the policy remembered before it saw ``obs[t]``;
    it is the initial state in every row that follows a reset. Empty for a feed-forward policy."""


@dataclass(frozen=True, slots=True)
class Unroll:
    """Consecutive steps of B environment rows, time-major: what learners of sequences are given.

    ``action[t]`` was taken at ``obs[t]``, with log-probability ``log_mu[t]``, by snapshot ``version[t]``;
    then came ``reward[t]``, ``discount[t]``, ``last[t]``, ``obs[t+1]``. Where ``valid[t]`` is False, ``obs[t]`` is the
    final observation of an episode and ``obs[t+1]`` the first of the next: no transition, and recurrent state begins
    anew at ``t+1``.
    """

    obs: Array
    """[T+1, B, *obs_shape]"""
    action: Array
    """[T, B] int64"""
    reward: Array
    """[T, B] float32"""
    discount: Array
    """[T, B] float32, 0 or 1; gamma is the learner's. A time limit has discount 1: ``obs[t+1]`` bootstraps."""
    last: Array
    """[T, B] bool"""
    valid: Array
    """[T, B] bool"""
    log_mu: Array
    """[T, B] float32; NaN where ``valid`` is False or it was not computed."""
    version: Array
    """[T, B] int64"""
    explored: Array
    """[T, B] bool"""
    state_at_start: Mapping[str, Array] = field(default_factory=dict)
    """What the policy remembered BEFORE it saw ``obs[0]``, each [B, ...]; empty for a feed-forward policy. A policy
    that reads its own last action and reward keeps them here: ``action_tm1`` [B] int64, -1 for none, ``reward_tm1``."""

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.action)

    @property
    def num_rows(self) -> int:
        """B."""
        return int(self.action.shape[1])


@dataclass(frozen=True, slots=True)
class Tokens:
    """Completions of prompts by a language model: N rows, P prompt tokens, at most R response tokens, fewer where an
    end token comes first."""

    prompt: Array
    """[N, P] int64"""
    response: Array
    """[N, R] int64; 0 where ``mask`` is False."""
    mask: Array
    """[N, R] bool: this token was generated and counts, an end token included."""
    log_mu: Array
    """[N, R] float32: log-probability with which the sampler drew ``response``, temperature and transform included;
    NaN where ``mask`` is False."""
    group: Array
    """[N] int64: number of the prompt in its stream; the completions of one prompt stand together."""
    version: Array
    """[N] int64: version of the weights that generated the row."""
    reward: Array
    """[N] float32: of the whole completion."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A batch of (n-step) transitions. ``discount_t`` holds gamma^n times the discounts on the way."""

    obs_tm1: Array
    a_tm1: Array
    r_t: Array
    discount_t: Array
    obs_t: Array
    log_mu_tm1: Array
    version_tm1: Array
    explored_tm1: Array


@dataclass(frozen=True, slots=True)
class Replayed:
    """A sampled batch with the keys to give priorities back and the weight the loss must use."""

    batch: Transition
    keys: Array
    """[B] int64"""
    weight: Array
    """[B] float32; ones when sampling is uniform, never absent."""


@dataclass(frozen=True, slots=True)
class ReplayedUnrolls:
    """As `Replayed`, for learners of sequences; one key and one weight per sequence."""

    batch: Unroll
    keys: Array
    """[B] int64"""
    weight: Array
    """[B] float32; ones when sampling is uniform or each unroll is used once, never absent."""


@dataclass(frozen=True, slots=True)
class ReplayedTokens:
    """As `Replayed`, for learners of language models; one key and one weight per completion."""

    batch: Tokens
    keys: Array
    """[N] int64"""
    weight: Array
    """[N] float32"""


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """Parameters to act with. ``version`` grows by one per update."""

    version: int
    parameters: Mapping[str, Array]
    transform: str = "none"
    """What was done to the learner's weights; ``parameters`` of a sampler are those before it."""
    rounded: Mapping[str, Array] | None = None
    """``parameters`` in bfloat16, where the learner has them: a policy in bf16 need not round them again."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a sampler returns."""

    data: Rows
    episodes: tuple[Episode, ...]
    env_steps: int
    """Valid transitions in ``data``."""
    costs: Costs
    q: Array | None = None
    """[T, B, A] float32 Q-values that chose ``data.action``, NaN in rows without a forward pass; None: all without."""

    @property
    def invalid_rows(self) -> int:
        """Rows between two episodes, which are no transitions."""
        return int(self.data.last.size) - self.env_steps


@dataclass(frozen=True, slots=True)
class CollectedTokens:
    """What a sampler of language models returns."""

    data: Tokens
    episodes: tuple[Episode, ...]
    """One per completion."""
    env_steps: int
    """Generated tokens that count."""
    costs: Costs
    invalid_rows: int = 0
    """Nothing lies between two completions."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What an asynchronous sampler has done between two events; its unrolls went to the learner by a queue."""

    episodes: tuple[Episode, ...]
    env_steps: int
    """Valid transitions."""
    invalid_rows: int
    """Rows between two episodes, the first resets included."""
    costs: Costs


Experience = Collected | CollectedTokens | Gathered
"""What one round has brought, whoever sampled it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an update has seen of its batch, for meters; numpy arrays."""

    q_tm1: Array
    """[B, A] Q-values of the online network at the start."""
    td: Array
    """[B] signed TD errors, target minus prediction."""
    explored_tm1: Array
    """[B] bool"""
    keys: Array
    """[B] int64 keys of the transitions."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What a learner's update returns."""

    metrics: Mapping[str, Any]
    """Scalars (float or 0-d tensor)."""
    priorities: Array | None
    """[B] float64 for the keys of the batch, or None when the learner has no priorities."""
    costs: Costs
    seen: Seen | None = None

    @property
    def gradient_steps(self) -> int:
        """Of this update: what its costs count for the learner; 1 where they count none."""
        steps = self.costs["learner"].updates if "learner" in self.costs else None
        return 1 if steps is None else steps

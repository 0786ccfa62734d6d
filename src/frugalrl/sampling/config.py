"""Where the environments run and who acts for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from frugalrl.policies.transforms import parse
from frugalrl.sampling.mix import Part, read_mix

Engine = Literal["torch", "onnx", "onnx-int8", "vllm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """Who acts: the thread that steps the environments (``inline``) or one engine for all of them (``central``)."""

    kind: Literal["inline", "central"] = "inline"
    workers: int = 0
    """``central``: worker processes that hold the environments; 0 keeps them in threads of this process."""
    groups: int = 2
    """``central``: groups into which the rows are split (per worker, if there are workers); while the engine works for
    one group, the environments of the others go on."""
    deadline_ms: float = 15.0
    """Without a pause (``central`` without ``lockstep``, agents that learn from sequences): the oldest request waits no
    longer than this for others to join its batch. All other engines act in lockstep."""
    live_share: float = 1 / 3
    """Without a pause: a batch is run as soon as this share of the live rows waits."""
    max_batch_rows: int | None = None
    """Without a pause: rows of one forward pass; None: as many as wait."""
    lockstep: bool = False
    """``central``: all rows step together, so that a run is the same bit for bit whatever the timing; with
    ``schedule.lag_blocks=1`` while the learner works, and acted by the snapshot of one round ago. Agents that learn
    from transitions always do so."""
    queue_batches: int = 1
    """Without a pause: batches of complete unrolls that wait for the learner; the engine stops when they are there."""
    hang_s: float = 60.0
    """``central``: a worker that gave no sign of life for so long is killed and started again, a thread left behind; in
    lockstep the run ends."""
    restarts: int = 10
    """Without a pause: how often groups may be started again in a run; then it fails. A lockstep fails at once."""

    transform: str = "none"
    """What is done to the learner's weights before they act, such as ``int8`` or ``int3+stale:8``; see ``frugal list
    transforms``. The evaluation never has it."""
    engine: Engine = "torch"
    """What computes forward passes: PyTorch, or ONNX Runtime in fp32 or with dense layers and LSTMs in int8; for
    language models PyTorch, or vLLM in a process of its own."""
    vllm_python: str | None = None
    """``engine=vllm``: the Python of the environment of ``scripts/vllm_env``; None: the one in ``.venvs/vllm``."""
    sync_every_updates: int = 1
    """Learner updates between two loads of weights by the sampler."""
    mix: tuple[str, ...] = ()
    """Several samplers in one run, ``ROWS*TRANSFORM`` or ``ROWS*TRANSFORM@ENGINE`` each, for the rows in their order,
    such as ("16*int8", "8*stale:8", "8*none@onnx"); instead of ``transform`` and ``engine``."""

    def __post_init__(self) -> None:
        self._check_policies()
        for name, least in (
            ("workers", 0),
            ("groups", 1),
            ("queue_batches", 1),
            ("restarts", 0),
            ("sync_every_updates", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"sampler.{name}={getattr(self, name)}: must be at least {least}")
        if not 0 < self.live_share <= 1:
            raise ValueError(f"sampler.live_share={self.live_share}: must lie in (0, 1]")
        if self.deadline_ms < 0 or self.hang_s <= 0:
            raise ValueError(
                f"sampler.deadline_ms={self.deadline_ms}, hang_s={self.hang_s}: need at least 0, and a positive time"
            )
        if self.max_batch_rows is not None and self.max_batch_rows < 1:
            raise ValueError(f"sampler.max_batch_rows={self.max_batch_rows}: must be at least 1, or None")

    def _check_policies(self) -> None:
        parse(self.transform, "sampler.transform")
        parts = read_mix(self.mix, get_args(Engine))
        if parts and (self.transform != "none" or self.engine != "torch"):
            raise ValueError(
                f"sampler.mix says transform and engine of all rows, so sampler.transform={self.transform!r} and "
                f"sampler.engine={self.engine!r} must be 'none' and 'torch'"
            )

    def parts(self, rows: int) -> tuple[Part, ...]:
        """Transform and engine of each of ``rows`` rows. Raises ValueError when the mix is for another number."""
        if not self.mix:
            return (Part(rows, parse(self.transform, "sampler.transform"), self.engine),)
        parts = read_mix(self.mix, get_args(Engine))
        given = sum(part.rows for part in parts)
        if given != rows:
            raise ValueError(f"sampler.mix={self.mix} is for {given} rows, but there are {rows}; use --envs {given}")
        return parts

    @property
    def as_the_learner(self) -> bool:
        """Whether all rows act with the newest weights of the learner, as they are."""
        plain = parse(self.transform).changes_nothing and self.engine == "torch"
        return plain and not self.mix and self.sync_every_updates == 1

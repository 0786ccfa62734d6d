"""vLLM as the sampler of a language model: other kernels, another precision, the learner's weights.

The log-probabilities are those of the distribution that was sampled from, temperature included
(``logprobs_mode="processed_logprobs"``). Every completion has a seed of its own, so the same weights, prompts and seeds
give the same tokens.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frugalrl.sampling.vllm.checkpoint import PRECISIONS, dtype_of, for_engine, weight_levels, write_checkpoint
from frugalrl.sampling.vllm.process import EngineProcess
from frugalrl.sampling.vllm.wire import Blob, Message
from frugalrl.types import Costs, RunFailed, UserError, merge_costs


@dataclass(frozen=True, slots=True)
class Completions:
    """One completion of each of B prompts, at most N tokens long."""

    tokens: NDArray[np.int64]
    """[B, N]; zeros after the end."""
    log_mu: NDArray[np.float32]
    """[B, N]: log-probability with which each token was sampled; 0 after the end."""
    counts: NDArray[np.int64]
    """[B]: tokens of each row, an end-of-sequence token included."""


class VllmEngine:
    """An engine with one model, in a process of its own.

    ``load`` builds it, then pushes weights into it; ``int8`` cannot take a push (in vLLM 0.32.0 a reload of
    compressed-tensors weights gives NaN) and is built again for each ``load``.
    """

    def __init__(
        self,
        python: Path,
        precision: str = "fp32",
        *,
        max_length: int,
        max_rows: int = 256,
        log: Path | None = None,
        start_s: float = 300.0,
        answer_s: float = 600.0,
    ) -> None:
        """Nothing is started before ``load``.

        Args:
            python: see ``find_python``.
            precision: ``fp32``, ``bf16``, or ``int8`` (see ``checkpoint.py``).
            max_length: most tokens of a prompt and its completion.
            max_rows: completions that are worked on together.
            log: file that its output is appended to; None keeps it no longer than the process.
            start_s, answer_s: seconds within which it must have started, or answered.

        Raises:
            UserError: an unknown precision.
        """
        if precision not in PRECISIONS:
            raise UserError(f"vLLM cannot sample in {precision!r} here; use one of {', '.join(PRECISIONS)}.")
        self.precision = precision
        self.log = log
        self._python, self._max_length, self._max_rows = python, max_length, max_rows
        self._start_s, self._answer_s = start_s, answer_s
        self._levels = weight_levels()
        self._process: EngineProcess | None = None
        self._built = False
        self._spent: Costs = {}
        self.build_s: float | None = None
        """Wall seconds of the last build inside the engine's process, imports left out."""
        self.last_load_s: float | None = None
        """Wall seconds of the last ``load``."""
        self.about: dict[str, str] = {}
        """vLLM's version and the dtype it computes in, once it is built."""

    @property
    def pid(self) -> int | None:
        """Process id, if it has been started."""
        return None if self._process is None else self._process.pid

    def load(self, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> int:
        """Sample with these weights from now on; returns the bytes that the engine was given.

        Args:
            config: what Hugging Face's ``config.json`` holds; the same in every call.
            weights: its causal language model's parameters, by Hugging Face's names.

        Raises:
            RunFailed: the engine's process failed.
            UserError: weights that cannot be given in this precision.
        """
        began_s = time.monotonic()
        if self._built and self.precision != "int8":
            nbytes = self._push(for_engine(weights, self.precision))
        else:
            nbytes = self._build(config, weights)
        self.last_load_s = time.monotonic() - began_s
        return nbytes

    def _build(self, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> int:
        if self._process is None:
            self._process = EngineProcess(self._python, self.log)
        with tempfile.TemporaryDirectory(prefix="frugalrl-vllm-") as folder:
            nbytes = write_checkpoint(Path(folder), config, weights, self.precision, self._levels)
            answer = self._ask("build", {"options": self._options(folder)}, timeout_s=self._start_s)
        self.build_s = float(answer.head["load_s"])
        self.about = {"vllm": str(answer.head["version"]), "dtype": str(answer.head["dtype"])}
        self._built = True
        return nbytes

    def _options(self, folder: str) -> dict[str, Any]:
        """Arguments of vLLM's ``LLM``."""
        return {
            "model": folder,
            "skip_tokenizer_init": True,
            "dtype": str(dtype_of(self.precision)).removeprefix("torch."),
            "max_model_len": self._max_length,
            "max_num_seqs": self._max_rows,
            "enforce_eager": True,
            "logprobs_mode": "processed_logprobs",
            "generation_config": "vllm",
            "disable_log_stats": True,
            # keys and values that old weights made must never serve new ones
            "enable_prefix_caching": False,
            "seed": 0,
        }

    def _push(self, ready: Mapping[str, torch.Tensor]) -> int:
        message_arrays = {name: _blob(tensor) for name, tensor in ready.items()}
        self._ask("push", {}, message_arrays, timeout_s=self._answer_s)
        return sum(blob.nbytes for blob in message_arrays.values())

    def generate(
        self,
        prompts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        seeds: NDArray[np.int64],
        *,
        max_tokens: int,
        temperature: float = 1.0,
        eos_token_id: int | None = None,
    ) -> Completions:
        """Complete each prompt once.

        Args:
            prompts: [B, P] token ids, padded on the right.
            lengths: [B] how many of them count, at least 1.
            seeds: [B] one per completion, at least 0; equal prompts need different ones.
            max_tokens: most tokens of a completion.
            temperature: logits are divided by it; above 0.
            eos_token_id: the token that ends a completion (and belongs to it); None for none.

        Raises:
            UserError: a temperature of 0 or below: all tokens but one would have probability 0.
            RunFailed: the process failed; or a log-probability is not finite, and the next ``load`` starts another one.
        """
        if not self._built:
            raise RuntimeError("call load() before generate()")
        if not temperature > 0:
            raise UserError(
                f"temperature={temperature}: a sampler whose tokens are to be reweighted needs one above 0."
            )
        answer = self._ask(
            "generate",
            {"max_tokens": max_tokens, "temperature": temperature, "eos_token_id": eos_token_id},
            {"prompts": _of(prompts), "lengths": _of(lengths), "seeds": _of(seeds)},
            timeout_s=self._answer_s,
        )
        done = Completions(*(_array(answer.arrays[name]) for name in ("tokens", "log_mu", "counts")))
        bad = int((~np.isfinite(done.log_mu)).any(axis=1).sum())
        if bad:
            self.close()  # its cache holds what is not finite, and would spoil completions of whole weights
            raise RunFailed(
                f"vLLM ({self.precision}) gave log-probabilities that are not finite for {bad} of {len(prompts)} "
                f"completions: the weights that it was given, or its form of them, are broken."
            )
        return done

    def _ask(
        self, what: str, head: Mapping[str, Any], arrays: Mapping[str, Blob] | None = None, *, timeout_s: float
    ) -> Message:
        assert self._process is not None
        return self._process.ask(what, head, arrays, timeout_s=timeout_s)

    def take_costs(self) -> Costs:
        """CPU-seconds of the process since the last time: ``startup``, ``inference``, ``transport``. What the calling
        thread spends is its own timer's."""
        spent, self._spent = self._spent, {}
        return merge_costs([spent, {} if self._process is None else self._process.take_costs()])

    def close(self) -> None:
        """End the process; harmless when called twice."""
        if self._process is not None:
            self._spent = merge_costs([self._spent, self._process.take_costs()])
            self._process.close()
            self._process, self._built = None, False


def _blob(tensor: torch.Tensor) -> Blob:
    name = str(tensor.dtype).removeprefix("torch.")
    return Blob(name, tuple(tensor.shape), tensor.view(torch.uint8).numpy().tobytes())


def _of(array: NDArray[np.int64]) -> Blob:
    array = np.ascontiguousarray(array, dtype=np.int64)
    return Blob("int64", array.shape, array.tobytes())


def _array(blob: Blob) -> NDArray[Any]:
    return np.frombuffer(blob.data, dtype=blob.dtype).reshape(blob.shape)

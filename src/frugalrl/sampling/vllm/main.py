"""What runs in vLLM's own virtual environment: an engine that builds, generates and takes weights when it is told to.

Started by ``process.py``. Of this package it imports only what needs the standard library. It answers each message
with one message and ends when its pipe does. CPU-seconds go with every answer, by role, as totals since the start.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from typing import Any

from frugalrl.sampling.life import die_with_parent
from frugalrl.sampling.vllm.wire import Blob, Ended, Message, Pipe

VLLM = "vllm"


class Engine:
    """vLLM's ``LLM`` and the clock of this process. Prompts and completions are token ids; there is no tokenizer."""

    def __init__(self) -> None:
        self._llm: Any = None
        self._cpu_ns = 0
        self._used = {"startup": 0, "inference": 0, "transport": 0}

    def answer(self, message: Message) -> Message:
        """Do what the message asks for."""
        self._lap("transport")  # waiting, and reading the message
        ask = message.head["do"]
        # to build it again is how some weights get in
        role = "startup" if ask == "build" and self._llm is None else "inference" if ask == "generate" else "transport"
        head, arrays = getattr(self, f"_{ask}")(message)
        self._lap(role)
        return Message({**head, "cpu_ns": self._used}, arrays)

    def _lap(self, role: str) -> None:
        now = time.process_time_ns() + _children_ns()
        self._used[role] += now - self._cpu_ns
        self._cpu_ns = now

    def _build(self, message: Message) -> tuple[dict[str, Any], dict[str, Blob]]:
        """Load the checkpoint in a folder, in place of the one before."""
        vllm = importlib.import_module(VLLM)
        self._free()
        began_s = time.monotonic()
        self._llm = vllm.LLM(**message.head["options"])
        config = self._llm.llm_engine.vllm_config.model_config
        return {"load_s": time.monotonic() - began_s, "version": vllm.__version__, "dtype": str(config.dtype)}, {}

    def _free(self) -> None:
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()

    def _push(self, message: Message) -> tuple[dict[str, Any], dict[str, Blob]]:
        """Put other weights into the model that is loaded; names and shapes as in its checkpoint."""

        def weights() -> Iterator[tuple[str, Any]]:
            for name, blob in message.arrays.items():
                yield name, _tensor(blob)

        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights()})
        return {}, {}

    def _generate(self, message: Message) -> tuple[dict[str, Any], dict[str, Blob]]:
        """Complete each prompt once, with a seed of its own."""
        vllm = importlib.import_module(VLLM)
        head = message.head
        prompts = _tensor(message.arrays["prompts"]).tolist()
        lengths = _tensor(message.arrays["lengths"]).tolist()
        seeds = _tensor(message.arrays["seeds"]).tolist()
        stop = head["eos_token_id"]
        params = [
            vllm.SamplingParams(
                temperature=head["temperature"],
                max_tokens=head["max_tokens"],
                seed=seed,
                logprobs=0,
                detokenize=False,
                ignore_eos=True,
                stop_token_ids=None if stop is None else [stop],
            )
            for seed in seeds
        ]
        asked = [{"prompt_token_ids": row[:length]} for row, length in zip(prompts, lengths, strict=True)]
        done = [out.outputs[0] for out in self._llm.generate(asked, params, use_tqdm=False)]
        return {}, _completions(done, head["max_tokens"])


def _children_ns() -> int:
    """CPU time of ended children: vLLM looks at a model's class in another process, the first time on a machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def _completions(done: list[Any], width: int) -> dict[str, Blob]:
    """Token ids [B, width], their log-probabilities [B, width] and how many of each row count [B]."""
    torch = importlib.import_module("torch")
    tokens = torch.zeros((len(done), width), dtype=torch.int64)
    log_mu = torch.zeros((len(done), width), dtype=torch.float32)
    for row, one in enumerate(done):
        ids = list(one.token_ids)
        tokens[row, : len(ids)] = torch.tensor(ids)
        log_mu[row, : len(ids)] = torch.tensor([at[i].logprob for at, i in zip(one.logprobs, ids, strict=True)])
    counts = torch.tensor([len(one.token_ids) for one in done])
    return {"tokens": _blob(tokens), "log_mu": _blob(log_mu), "counts": _blob(counts)}


def _tensor(blob: Blob) -> Any:
    torch = importlib.import_module("torch")
    dtype = getattr(torch, blob.dtype)
    if not blob.nbytes:
        return torch.empty(blob.shape, dtype=dtype)
    return torch.frombuffer(blob.data, dtype=dtype).reshape(blob.shape)


def _blob(tensor: Any) -> Blob:
    return Blob(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.numpy().tobytes())


def say(error: BaseException) -> str:
    """An error on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def main(read_fd: int, write_fd: int, life_fd: int) -> None:
    """Serve until the pipe ends. The descriptors: questions, answers, and the life of the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for fd in (read_fd, write_fd, life_fd):
        os.set_inheritable(fd, False)
    die_with_parent(life_fd)
    pipe, engine = Pipe(read_fd, write_fd), Engine()
    while True:
        try:
            message = pipe.receive()
        except Ended:
            os._exit(0)
        try:
            answer = engine.answer(message)
        except BaseException as error:
            import traceback

            traceback.print_exc()
            answer = Message({"failed": say(error)})
        pipe.send(answer)

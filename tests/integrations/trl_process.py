"""One of several processes of a training run; writes what it saw and what was logged to a file of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import trl_tiny as tiny

from frugalrl.integrations.trl import CorrectedGRPOTrainer, MismatchCallback, SamplerCopy
from frugalrl.integrations.trl_batch import OLD


class Spy(MismatchCallback):
    """Keeps the last batch."""

    def _record(self, batch: dict[str, Any]) -> None:
        self.seen = [batch[k].tolist() for k in (OLD, "sampling_per_token_logps", "completion_mask")]
        super()._record(batch)


if __name__ == "__main__":
    torch.set_num_threads(1)
    spy = Spy(metrics=None)
    trainer = CorrectedGRPOTrainer(
        model=tiny.model(), reward_funcs=tiny.reward, processing_class=tiny.tokenizer(), train_dataset=tiny.prompts(),
        args=tiny.config(Path(sys.argv[1]), max_steps=1, per_device_train_batch_size=8, ddp_backend="gloo"),
        callbacks=[spy], rollout_func=SamplerCopy("int3"),
    )  # fmt: skip
    trainer.train()
    processes = trainer.accelerator.num_processes
    line = json.dumps({"seen": spy.seen, "logged": trainer.state.log_history[0], "processes": processes})
    Path(sys.argv[1], f"rank{trainer.accelerator.process_index}.json").write_text(line)
    torch.distributed.destroy_process_group()

"""Where bfloat16 pays, and where it costs."""

from __future__ import annotations

import torch


def bf16_is_slow(device: torch.device) -> bool:
    """Whether this processor lacks what oneDNN needs for bfloat16 (AVX-512 or newer on x86).

    PyTorch then computes in plain loops: an update of the Nature network takes 9 times as long as in fp32
    (``benchmarks/own_limit.py``, AMD EPYC, family 25, model 1).
    """
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


SLOW_BF16 = "this processor has no fast bfloat16 (AVX-512 or newer), so bf16 takes many times as long as fp32 here"

from __future__ import annotations

import torch

from frugalrl.nets.precision import bf16_is_slow


def operators(dtype: torch.dtype) -> set[str]:
    """What torch runs for the Nature network's second convolution."""
    x, w = torch.ones((32, 32, 20, 20), dtype=dtype), torch.ones((64, 32, 4, 4), dtype=dtype)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.inference_mode():
        torch.nn.functional.conv2d(x, w, stride=2)
    return {event.key for event in profile.key_averages()}


def test_slow_is_where_torch_falls_back_to_a_plain_loop() -> None:
    assert "aten::_slow_conv2d_forward" not in operators(torch.float32)
    assert bf16_is_slow(torch.device("cpu")) == ("aten::_slow_conv2d_forward" in operators(torch.bfloat16))


def test_a_gpu_is_never_slow() -> None:
    assert not bf16_is_slow(torch.device("cuda"))

#!/usr/bin/env python3
"""The update of Double DQN on the Nature network, batch 32, fp32: where its time goes, and what other ways cost.

    python benchmarks/update_variants.py --rounds 30 --out evidence/bench/update-variants.json

Variants run in turn, round by round, in one process with one thread; a figure is the median of its CPU-milliseconds, a
ratio the median over rounds of baseline / variant (above 1: the variant is faster). All variants compute the same
numbers up to rounding (asserted), except where the note says that they cannot stand in for the update.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalrl.math.td import q_loss
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.nets.torsos import interleave4
from frugalrl.types import EnvSpec

BATCH, ACTIONS = 32, 6
SPEC = EnvSpec(
    id="A", protocol="p", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=ACTIONS, frame_stack=4
)


class Setting:
    """Two networks and one batch."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.online = build_q_network(SPEC, NetConfig(hidden_units=(512,)))
        self.target = build_q_network(SPEC, NetConfig(hidden_units=(512,))).requires_grad_(False)
        self.obs_tm1, self.obs_t = (torch.randint(0, 256, (BATCH, 4, 84, 84), dtype=torch.uint8) for _ in range(2))
        self.a, self.r = torch.randint(0, ACTIONS, (BATCH,)), torch.randn(BATCH)
        self.discount, self.weight = torch.full((BATCH,), 0.99), torch.ones(BATCH)

    def loss(self, q_tm1: Tensor, q_t: Tensor, q_select_t: Tensor) -> Tensor:
        return q_loss(
            q_tm1, self.a, self.r, self.discount, q_t, q_select_t, weight=self.weight, huber_delta=1.0
        )[0]  # fmt: skip

    def forget(self) -> None:
        for p in self.online.parameters():
            p.grad = None


def baseline(s: Setting) -> Callable[[], Tensor]:
    """As DQNLearner computes it, without Adam."""

    def run() -> Tensor:
        s.forget()
        with torch.no_grad():
            q_t, q_select_t = s.target(s.obs_t), s.online(s.obs_t)
        loss = s.loss(s.online(s.obs_tm1), q_t, q_select_t)
        loss.backward()
        return loss.detach()

    return run


def merged_online(s: Setting) -> Callable[[], Tensor]:
    """One online forward over both ends of the transitions; the far end's half is cut off before the loss."""

    def run() -> Tensor:
        s.forget()
        with torch.no_grad():
            q_t = s.target(s.obs_t)
        q = s.online(torch.cat((s.obs_tm1, s.obs_t)))
        loss = s.loss(q[:BATCH], q_t, q[BATCH:].detach())
        loss.backward()
        return loss.detach()

    return run


def shared_interleave(s: Setting) -> Callable[[], Tensor]:
    """The far end's bytes are brought into channels-last order once for both networks."""
    torso = [nn.Sequential(*list(net)[1:]) for net in (s.online, s.target)]

    def run() -> Tensor:
        s.forget()
        near, far = interleave4(s.obs_tm1).float(), interleave4(s.obs_t).float()
        with torch.no_grad():
            q_t, q_select_t = torso[1](far), torso[0](far)
        loss = s.loss(torso[0](near), q_t, q_select_t)
        loss.backward()
        return loss.detach()

    return run


def contiguous(s: Setting) -> Callable[[], Tensor]:
    """NCHW instead of channels-last, as Stable-Baselines3 and CleanRL compute."""
    online, target = (_plain(net) for net in (s.online, s.target))

    def run() -> Tensor:
        for p in online.parameters():
            p.grad = None
        with torch.no_grad():
            q_t, q_select_t = target(s.obs_t / 255.0), online(s.obs_t / 255.0)
        loss = s.loss(online(s.obs_tm1 / 255.0), q_t, q_select_t)
        loss.backward()
        return loss.detach()

    return run


def _plain(net: nn.Module) -> nn.Sequential:
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    dense = [m for m in net.modules() if isinstance(m, nn.Linear)]
    layers: list[nn.Module] = []
    for conv in convs:
        mine = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride)
        mine.load_state_dict({k: v.contiguous() for k, v in conv.state_dict().items()})
        layers += [mine, nn.ReLU(inplace=True)]
    # our features are channels last: the first dense layer's columns are put back in channel order
    first = nn.Linear(dense[0].in_features, dense[0].out_features)
    weight = dense[0].weight.detach().view(-1, 7, 7, 64).permute(0, 3, 1, 2).reshape(-1, 3136)
    first.load_state_dict({"weight": weight, "bias": dense[0].bias.detach()})
    last = copy.deepcopy(dense[1])
    out = nn.Sequential(*layers, nn.Flatten(), first, nn.ReLU(inplace=True), last)
    return out.requires_grad_(next(net.parameters()).requires_grad)


def prepacked_target(s: Setting) -> Callable[[], Tensor]:
    """The target's convolutions with weights that oneDNN has packed once (torch.utils.mkldnn)."""
    from torch.utils import mkldnn

    packed = mkldnn.to_mkldnn(_plain(s.target).eval())

    def run() -> Tensor:
        s.forget()
        with torch.no_grad():
            q_t = packed((s.obs_t / 255.0).to_mkldnn()).to_dense()
            q_select_t = s.online(s.obs_t)
        loss = s.loss(s.online(s.obs_tm1), q_t, q_select_t)
        loss.backward()
        return loss.detach()

    return run


def bf16_saved(s: Setting) -> Callable[[], Tensor]:
    """Activations kept for the backward pass in bfloat16: half the memory; gradients are rounded."""

    def pack(x: Tensor) -> Any:
        return x.to(torch.bfloat16) if x.dtype == torch.float32 and x.dim() == 4 and len(x) == BATCH else x

    def unpack(x: Any) -> Tensor:
        return x.float() if x.dtype == torch.bfloat16 else x

    plain = baseline(s)

    def run() -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return plain()

    return run


def through(s: Setting, forward: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[], Tensor]:
    """The update with another forward pass of a network."""

    def run() -> Tensor:
        s.forget()
        with torch.no_grad():
            q_t, q_select_t = forward(s.target, s.obs_t), forward(s.online, s.obs_t)
        loss = s.loss(forward(s.online, s.obs_tm1), q_t, q_select_t)
        loss.backward()
        return loss.detach()

    return run


def unfold_first(s: Setting) -> Callable[[], Tensor]:
    """The first convolution as unfold and one matrix product of MKL."""

    def forward(net: nn.Module, obs: Tensor) -> Tensor:
        layers = list(net)  # type: ignore[call-overload]
        conv = layers[1]
        columns = F.unfold(obs.float(), 8, stride=4)
        x = (conv.weight * conv.scale).reshape(32, -1) @ columns + conv.bias[:, None]
        x = x.view(len(obs), 32, 20, 20).contiguous(memory_format=torch.channels_last)
        return nn.Sequential(*layers[2:])(x)

    return through(s, forward)


def dense_convolution(s: Setting) -> Callable[[], Tensor]:
    """The first dense layer, with its ReLU, as a convolution of oneDNN over all of its input: 7 x 7 pixels."""

    def forward(net: nn.Module, obs: Tensor) -> Tensor:
        layers = list(net)  # type: ignore[call-overload]
        number = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
        dense, x = layers[number], nn.Sequential(*layers[: number - 1])(obs)
        _, channels, height, width = x.shape
        weight = dense.weight.view(-1, height, width, channels).permute(0, 3, 1, 2)  # channels-last, nothing is copied
        hidden = F.relu(F.conv2d(x, weight, dense.bias), inplace=True).flatten(1)
        return nn.Sequential(*layers[number + 1 :])(hidden)

    return through(s, forward)


def compiled(s: Setting) -> Callable[[], Tensor]:
    """torch.compile of both forwards; its backward is compiled with it."""
    online, target = torch.compile(s.online), torch.compile(s.target)

    def run() -> Tensor:
        s.forget()
        with torch.no_grad():
            q_t, q_select_t = target(s.obs_t), online(s.obs_t)
        loss = s.loss(online(s.obs_tm1), q_t, q_select_t)
        loss.backward()
        return loss.detach()

    return run


VARIANTS: dict[str, Callable[[Setting], Callable[[], Tensor]]] = {
    "baseline": baseline,
    "merged online forwards": merged_online,
    "shared interleave": shared_interleave,
    "contiguous (NCHW)": contiguous,
    "prepacked target": prepacked_target,
    "bf16 saved activations": bf16_saved,
    "first convolution as unfold": unfold_first,
    "first dense layer as convolution": dense_convolution,
    "torch.compile": compiled,
}


def parts(s: Setting, rounds: int) -> dict[str, dict[str, float]]:
    """Each layer alone, forward and backward: CPU-milliseconds and GFLOP/s."""
    layers = [m for m in s.online.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    x = interleave4(s.obs_tm1).float()
    found: dict[str, dict[str, float]] = {}
    for number, layer in enumerate(layers):
        first = number == 0
        inputs = (x.flatten(1) if isinstance(layer, nn.Linear) and x.dim() == 4 else x).detach()
        inputs.requires_grad_(not first)
        out = layer(inputs)
        flop = 2.0 * out.numel() * layer.weight[0].numel()
        gradient = torch.randn_like(out)
        forward, backward = [], []
        for _ in range(rounds):
            began = time.thread_time()
            out = layer(inputs)
            middle = time.thread_time()
            out.backward(gradient)
            backward.append(time.thread_time() - middle)
            forward.append(middle - began)
            inputs.grad = None
        name = f"{type(layer).__name__} {tuple(layer.weight.shape)}"
        f, b = statistics.median(forward), statistics.median(backward)
        found[name] = {
            "forward_ms": round(1e3 * f, 3), "backward_ms": round(1e3 * b, 3),
            "forward_gflop_s": round(flop / f / 1e9, 1),
            "backward_gflop_s": round((1 if first else 2) * flop / b / 1e9, 1),
        }  # fmt: skip
        x = out.relu()
    return found


def batches(s: Setting, rounds: int) -> dict[str, float]:
    """CPU-milliseconds of the target's forward per 32 observations, by batch size."""
    found = {}
    for size in (32, 64, 128, 256):
        obs = torch.randint(0, 256, (size, 4, 84, 84), dtype=torch.uint8)
        times = []
        with torch.inference_mode():
            for _ in range(rounds):
                began = time.thread_time()
                s.target(obs)
                times.append((time.thread_time() - began) * 32 / size)
        found[str(size)] = round(1e3 * statistics.median(times), 3)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--skip", nargs="*", default=[], help="variants to leave out")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting()
    runs, failed = {}, {}
    for name, make in VARIANTS.items():
        if name in args.skip:
            continue
        try:
            run = make(setting)
            loss = run()
            runs[name] = run
        except Exception as error:  # a compiler that is not there is a result too
            failed[name] = " ".join(str(error).split())[:200]
            continue
        assert torch.allclose(loss, runs["baseline"](), rtol=1e-2), name
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            began = time.thread_time()
            run()
            times[name].append(time.thread_time() - began)
    base = times["baseline"]
    results = {
        name: {
            "median_ms": round(1e3 * statistics.median(t), 2),
            "speedup": round(statistics.median(b / x for b, x in zip(base, t, strict=True)), 3),
        }
        for name, t in times.items()
    }
    for name, result in results.items():
        print(f"{name:<30} {result['median_ms']:>8} ms   {result['speedup']:.3f}x")
    for name, why in failed.items():
        print(f"{name:<30} failed: {why}")
    layers, sizes = parts(setting, args.rounds), batches(setting, args.rounds)
    for name, part in layers.items():
        print(f"{name:<30} {part}")
    print(f"target forward, ms per 32 observations by batch: {sizes}")
    sys.path.insert(0, str(Path(__file__).parent))
    from side_by_side import machine

    if args.out:
        document = {
            "command": f"python benchmarks/update_variants.py --rounds {args.rounds}",
            "date": datetime.date.today().isoformat(), "torch": torch.__version__, "machine": machine(),
            "variants": results, "failed": failed, "layers": layers, "target_forward_ms_per_32": sizes,
        }  # fmt: skip
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What an update of S seeds at once costs on a CUDA device: parameters stacked, `torch.func.vmap`, one recorded graph.

python benchmarks/gpu_stack.py --seeds 1 4 16 --net nature --precision tf32
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from gpu_update import SPEC
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from frugalrl.algos.adam import Adam
from frugalrl.math.td import q_loss
from frugalrl.nets.config import NetConfig
from frugalrl.nets.gpu import Recorded, settle
from frugalrl.nets.q_network import build_q_network
from frugalrl.run.assemble import pick_device
from frugalrl.types import EnvSpec

VECTOR = EnvSpec(id="V", protocol="p", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=2)


def measure(seeds: int, kind: str, batch: int, device: torch.device, calls: int) -> dict[str, Any]:
    spec, hidden = (SPEC, (512,)) if kind == "nature" else (VECTOR, (256, 256))
    whole = [build_q_network(spec, NetConfig(hidden_units=hidden)) for _ in range(seeds)]
    nets = [nn.Sequential(*net[1:]).to(device, memory_format=torch.contiguous_format) for net in whole]
    online, _ = stack_module_state(nets)
    target = {name: p.detach().clone() for name, p in online.items()}
    adam = Adam(online, lr=1e-4, eps=1e-8)
    obs_tm1, obs_t = torch.rand(2, seeds, batch, *spec.obs_shape, device=device)
    action = torch.randint(spec.num_actions, (seeds, batch), device=device)
    ones = torch.ones(seeds, batch, device=device)

    def loss(
        params: dict[str, Tensor], old: dict[str, Tensor], o_tm1: Tensor, o_t: Tensor, a: Tensor, w: Tensor
    ) -> Any:
        with torch.no_grad():
            q_t = functional_call(nets[0], old, (o_t,))
        return q_loss(functional_call(nets[0], params, (o_tm1,)), a, w, w, q_t, q_t, weight=w, huber_delta=1.0)[0]

    def step() -> Tensor:
        each = vmap(loss)(online, target, obs_tm1, obs_t, action, ones)
        adam.guarded_step(each.sum(), None)
        return each

    work = Recorded(step) if device.type == "cuda" else step
    for _ in range(10):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    ms = (time.perf_counter() - start) / calls * 1e3
    return {"seeds": seeds, "update_ms": round(ms, 4), "ms_per_seed": round(ms / seeds, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--net", choices=("nature", "mlp"), default="nature")
    parser.add_argument("--precision", choices=("fp32", "tf32"), default="fp32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    args = parser.parse_args()
    device = pick_device(args.device)
    settle(args.precision)
    found = [measure(s, args.net, args.batch, device, args.calls) for s in args.seeds]
    print(json.dumps({"torch": torch.__version__, **vars(args), "found": found}))


if __name__ == "__main__":
    main()

"""``frugal doctor``: what is measured on this machine, what is modelled, what was chosen and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK
from frugalrl.cli.output import console_for

if TYPE_CHECKING:
    from frugalrl.cost.doctor import Finding


def doctor(args: arguments.Doctor) -> int:
    """Examine and print."""
    seen = environment.seen()
    environment.prepare()
    from frugalrl.cost.doctor import Finding, examine, findings_to_json, render_doctor
    from frugalrl.cost.tables import load_tables

    prices = environment.price_file(args.prices)
    torch = _torch_findings()  # before the machine is examined: a loaded torch can name a GPU
    found = (
        *examine(load_tables(prices), environment=seen, machine_name=args.machine),
        Finding(
            topic="Prices",
            name="price file",
            ok=None,
            value=str(prices) if prices is not None else "none",
            note="merged over the package's tables" if prices else f"--prices FILE or ${environment.PRICES}",
        ),
        *torch,
    )
    if args.json:
        from frugalrl.cli.words import one_line

        print(one_line(findings_to_json(found)))
    else:
        render_doctor(_by_topic(found), console_for(sys.stdout))
    return OK


def _by_topic(found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    order = list(dict.fromkeys(finding.topic for finding in found))
    return tuple(sorted(found, key=lambda finding: order.index(finding.topic)))


def _torch_findings() -> list[Finding]:
    from frugalrl.cost.doctor import Finding

    try:
        import torch
    except (ImportError, OSError) as error:
        text = " ".join(str(error).split())
        return [Finding(topic="PyTorch", name="torch", ok=False, value="cannot be loaded", note=text)]
    from frugalrl.nets.precision import SLOW_BF16, bf16_is_slow

    slow = bf16_is_slow(torch.device("cpu"))
    cuda = torch.cuda.is_available()
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    device = torch.cuda.get_device_name(0) if cuda else "none"
    rows = (
        ("torch", True, str(torch.__version__), built),
        ("bf16 on the CPU", not slow, "slow" if slow else "fast", SLOW_BF16 if slow else "agent.precision=bf16 pays"),
        ("CUDA device", None, device, "used by --device auto" if cuda else ""),
        ("torch threads", None, str(torch.get_num_threads()), "in this process, with the settings above"),
    )
    return [Finding(topic="PyTorch", name=name, ok=ok, value=value, note=note) for name, ok, value, note in rows]

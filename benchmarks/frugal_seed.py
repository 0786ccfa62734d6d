"""Time FrugalRL's V-trace with central inference on the work of ``peer_torchbeast.py`` and ``peer_sample_factory.py``.

    python benchmarks/frugal_seed.py pong --steps 16000 --warmup 1600 --precision fp32
    python benchmarks/frugal_seed.py cartpole --steps 128000 --warmup 25600
    python benchmarks/frugal_seed.py pong --device cuda --precision tf32 --environments 64 --groups 4 --env-threads 3

A whole run with its ledger, as `frugal train` makes it. At the first status after --warmup agent steps, and at the
end of the budget before the final evaluation, the CPU-seconds of the whole process tree are read from /proc, as for the
peers. `stages` is the ledger between these two moments, in microseconds per agent step: CPU by each role's own threads
and workers, busy by the wall clock of the two lanes (engine, learner), `waiting` included.

On Pong let --steps be 1,000 times the environments: they begin their games together, and a window in which none ends
leaves out what a new game costs. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
THREADS = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "1"
os.environ["OMP_NUM_THREADS"] = THREADS

from process_tree import Window  # noqa: E402

LIBRARIES = ("torch", "numpy", "gymnasium", "ale-py", "frugalrl")
ENGINE = ("batch_rows", "batch_fill", "queue_ms_p95", "forward_ms_p50", "lag_mean", "lag_max")
TASKS: dict[str, dict[str, Any]] = {
    "pong": {
        "algorithm": "v-trace actor-critic", "env": "ALE/Pong-v5", "observation": "84x84x4 uint8", "frames_per_step": 4,
        "sticky_actions": 0.0, "clip_reward": True, "network": "nature-cnn-512", "optimizer": "adam", "gamma": 0.99,
        "environments": 16, "unroll_steps": 20, "batch_unrolls": 8, "transitions_per_update": 160,
        "uses_of_a_transition": 1, "max_grad_norm": 40.0, "fire_reset": False, "life_loss": "ends the return",
    },
    "cartpole": {
        "algorithm": "v-trace actor-critic", "env": "CartPole-v1", "observation": "4 float32", "frames_per_step": 1,
        "network": "mlp-64-64", "optimizer": "adam", "gamma": 0.99, "environments": 64, "workers": 2,
        "unroll_steps": 20, "batch_unrolls": 16, "transitions_per_update": 320, "uses_of_a_transition": 1,
    },
}  # fmt: skip


def settings(work: dict[str, Any], args: argparse.Namespace) -> list[str]:
    """The work as overrides of the recipe ``seed-vtrace-small``."""
    hidden = "512" if work["network"].startswith("nature") else "64,64"
    return [
        f"env.rows={work['environments']}",
        "net.torso=auto",
        "net.init=torch",
        f"net.hidden_units={hidden}",
        f"agent.gamma={work['gamma']}",
        f"agent.unroll_steps={work['unroll_steps']}",
        f"agent.batch_unrolls={work['batch_unrolls']}",
        f"agent.precision={args.precision}",
        f"sampler.kind={args.sampler}",
        f"sampler.workers={work['workers'] if args.sampler == 'central' else 0}",
        f"schedule.steps_per_round={work['unroll_steps']}",
        f"threads={args.threads}",
        f"evaluation.every_env_steps={10 * (args.steps + args.warmup)}",
        "evaluation.episodes=1",
        "evaluation.rows=1",
        "checkpoint.every_s=36000",
        f"budget.env_steps={args.steps + args.warmup}",
        f"seed={args.seed}",
        f"device={args.device}",
        *args.set,
        *([] if args.groups is None else [f"sampler.groups={args.groups}"]),
        *([] if args.env_threads is None else [f"env.threads={args.env_threads}"]),
    ]


def per_step(first: dict[str, Any], last: dict[str, Any], counted: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Microseconds per agent step by role between two readings of the ledger; what was not measured is left out.

    ``unassigned`` is what /proc counted in ``counted`` and no role claims.
    """
    steps = counted["agent_steps"]
    found: dict[str, dict[str, float]] = {"cpu_us_per_step": {}, "busy_us_per_step": {}}
    for role, cost in last.items():
        for kind, roles in zip(("cpu_s", "busy_s"), found.values(), strict=True):
            after, before = getattr(cost, kind), getattr(first.get(role), kind, None)
            if role != "unassigned" and after is not None and after != before:
                roles[role] = round((after - (before or 0.0)) / steps * 1e6, 2)
    roles = found["cpu_us_per_step"]
    roles["unassigned"] = round(counted["cpu_s"] / steps * 1e6 - sum(roles.values()), 2)
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from frugalrl import build_config, override
    from frugalrl.run.record import RunFolder
    from frugalrl.run.status import Silent, Status
    from frugalrl.run.train import Run

    work = {"workers": 0, **TASKS[args.task]}
    for name in ("environments", "workers"):
        work[name] = work[name] if getattr(args, name) is None else getattr(args, name)
    window = Window(os.getpid(), args.warmup, args.steps, every_s=0.0)
    readings: list[dict[str, Any]] = []

    class Reader(Silent):
        engine: dict[str, float]

        @property
        def interval_s(self) -> float:  # type: ignore[override]
            return 2.0 if window.marks else 0.1  # a status costs milliseconds; the first one must not be late

        def status(self, status: Status) -> None:
            if status.phase == "evaluating":  # the budget is spent; the evaluation has not begun
                window.end(status.env_steps, status.updates)
            else:
                window.at(status.env_steps, status.updates)
                self.engine = {name: round(status.metrics[name], 3) for name in ENGINE if name in status.metrics}
            if len(window.marks) > len(readings):
                readings.append(run._ledger.totals())  # settled for this status

    reader = Reader()
    config = override(build_config(work["env"], recipe="seed-vtrace-small"), settings(work, args))
    run = Run(config, reader, tables=None, whole_process=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            run.open(RunFolder.create(Path(folder) / "run", config, run.machine_document(sys.argv)))
            outcome = run.play(resumed_at=None)
        finally:
            run.close()
    if not (outcome.completed and window.closed):
        sys.exit(f"frugal_seed: the run ended before its {args.steps} steps were counted: {outcome.reason}")
    if len(window.marks) < 2:
        sys.exit(
            f"frugal_seed: {args.steps} steps after the warmup were too few for two readings of the clocks; use more"
        )
    counted = window.result()
    return {
        "peer": "frugalrl",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        "task": args.task,
        "seed": args.seed,
        "threads": args.threads,
        "omp_wait_policy": os.environ["OMP_WAIT_POLICY"],
        "precision": args.precision,
        "sampler": args.sampler,
        "device": args.device,
        **counted,
        "frames": work["frames_per_step"] * (window.marks[-1].steps - window.marks[0].steps),
        "stages": per_step(readings[0], readings[-1], counted),
        "engine": reader.engine,
        "work": work,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--steps", type=int, default=16_000, help="agent steps counted, after the warmup")
    parser.add_argument("--warmup", type=int, default=1_600, help="agent steps before the clocks are read first")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--groups", type=int, help="groups of environments that take turns")
    parser.add_argument("--env-threads", type=int, help="threads of one native vector environment")
    parser.add_argument("--sampler", choices=("central", "inline"), default="central")
    parser.add_argument("--environments", type=int, help="16 for Pong, 64 for CartPole")
    parser.add_argument("--workers", type=int, help="worker processes: 0 (threads) for Pong, 2 for CartPole")
    parser.add_argument("--threads", type=int, default=1, help="threads of one tensor operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="more fields of the configuration")
    args = parser.parse_args()
    if args.steps < 1 or args.warmup < 1:
        parser.error("--steps and --warmup must be at least 1")
    print(json.dumps(measure(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

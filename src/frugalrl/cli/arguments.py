"""What each command takes: one frozen dataclass per command, whose docstrings are the help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from frugalrl.cli.options import (
    Actions,
    Count,
    Device,
    Euros,
    File,
    Flag,
    Folder,
    Format,
    Hours,
    Milliseconds,
    Name,
    Numbers,
    Rate,
    RunFolderArgument,
    RunFolders,
    Sampler,
    Seed,
    Seeds,
    Steps,
    Target,
    Words,
    Workers,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Train an agent and print the bill."""

    env: Annotated[Positional[str], arg(metavar="ENV", help_behavior_hint="")]
    """Environment: a Gymnasium id, or module:id. See 'frugal list envs'."""
    recipe: Name = None
    """Named configuration to start from (default: by environment; see 'frugal list recipes')."""
    explore: Name = None
    """Exploration rule (default: the recipe's, epsilon-greedy; see 'frugal list explorers')."""
    sampler: Sampler = None
    """Who acts: the thread that steps the environments, or one engine for all of them (default: the recipe's)."""
    correction: Name = None
    """For a sampler that differs from the learner of a policy, e.g. token-tis:2 (default: the recipe's)."""
    envs: Count = None
    """Environments side by side (default: the recipe's)."""
    workers: Workers = None
    """Worker processes that hold the environments of a central sampler; 0: threads (default: the recipe's)."""
    sampler_transform: Name = None
    """What is done to the weights that act, e.g. int8 or int3+stale:8 (default: none; see 'frugal list transforms')."""
    sampler_engine: Name = None
    """What computes the policy that acts: torch, onnx, onnx-int8, or vllm for language models (default: torch)."""
    set: Annotated[UseAppendAction[tuple[Words, ...]], arg(metavar="A.B=C", help_behavior_hint="(repeatable)")] = ()
    """Change a field of the configuration, e.g. agent.learning_rate=1e-3; wins over all other options."""
    env_kwargs: Annotated[Words, arg(metavar="K=V", help_behavior_hint="")] = ()
    """Arguments of the environment's constructor: k=v ..., or one JSON object."""
    protocol: Name = None
    """Evaluation and training protocol (default: the recipe's)."""
    seed: Seed = None
    """Seed of everything random (default: 0)."""
    out: Folder = None
    """Folder of the run (default: runs/ENV-EXPLORER-seedN-DATE-TIME)."""
    budget_steps: Steps = None
    """Stop after N agent steps. Several budgets: the first reached ends the run (default: the recipe's)."""
    budget_hours: Hours = None
    """Stop after H wall hours."""
    budget_eur: Euros = None
    """Stop after X euro at the price of this machine."""
    target: Target = None
    """Stop when an evaluation reaches SCORE; without a budget the recipe's stays the limit."""
    probe_envs: Count = None
    """Try argmin and uniform actions in N more environments at each evaluation, for the meters of the theory; billed
    apart (default: none)."""
    device: Device = None
    """Where the network lives (default: auto)."""
    threads: Count = None
    """Threads of one tensor operation (default: the recipe's, 1)."""
    machine: Name = None
    """Machine profile for prices and modelled joules (default: detected; see 'frugal list machines')."""
    prices: File = None
    """Your own TOML price file, merged over the package's (default: $FRUGALRL_PRICES)."""
    tensorboard: Folder = None
    """Write scalars for TensorBoard into a folder of the run's name in DIR as well (default: no)."""
    quiet: Flag = False
    """Print only the first line, warnings and the final score."""
    json: Flag = False
    """Print one JSON object at the end and nothing else on stdout; progress goes to stderr."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resume:
    """Go on with a run from its last checkpoint."""

    run: RunFolderArgument
    """Folder of the run."""
    budget_steps: Steps = None
    """New limit in agent steps, earlier ones included (default: the limits the run has)."""
    budget_hours: Hours = None
    """New limit in wall hours, earlier ones included."""
    budget_eur: Euros = None
    """New limit in euro, earlier ones included."""
    target: Target = None
    """Stop when an evaluation reaches SCORE; without a budget the run's own stays the limit."""
    prices: File = None
    """Your own TOML price file, merged over the package's (default: $FRUGALRL_PRICES)."""
    tensorboard: Folder = None
    """Write scalars for TensorBoard into a folder of the run's name in DIR as well (default: no)."""
    quiet: Flag = False
    """Print only the first line, warnings and the final score."""
    json: Flag = False
    """Print one JSON object at the end and nothing else on stdout; progress goes to stderr."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compare:
    """Compare methods over environments and seeds: what does the same score cost with each?"""

    study: Annotated[Positional[Path | None], arg(metavar="[STUDY.toml]", help_behavior_hint="")] = None
    """A study as a TOML file, instead of --env, --methods, --seeds, --budget-steps, --target and --set."""
    env: Annotated[Words, arg(metavar="ENV", help_behavior_hint="")] = ()
    """Environments (default: CartPole-v1)."""
    methods: Annotated[Words, arg(metavar="METHOD", help_behavior_hint="")] = ()
    """Methods, [NAME=]PART+PART+..., each part an explorer, a recipe, a sampler such as int4-tis2, or a.b=c
    (default: epsilon-greedy counteractive counteractive-mixed)."""
    suite: Name = None
    """Methods with a name instead of --methods; levers: exploration x sampling x sampler, with 5 seeds by default."""
    cheap_sampler: Name = None
    """With --suite levers: the other sampler, e.g. int8 or onnx-int8 (default: by environment)."""
    baseline: Name = None
    """The method that the others are compared with (default: the first)."""
    seeds: Seeds = ()
    """One number: how many seeds; several: the seeds themselves (default: 10)."""
    budget_steps: Steps = None
    """Agent steps of every run (default: the recipe's; 30,000 without --env)."""
    evaluations: Count = None
    """Evaluations of every run, the resolution of a time to target (default: 20; 10 without --env)."""
    target: Numbers = ()
    """Scores whose cost is asked for, in every environment (default: 25, 50, 75 and 100 % of the reference)."""
    set: Annotated[UseAppendAction[tuple[Words, ...]], arg(metavar="A.B=C", help_behavior_hint="(repeatable)")] = ()
    """Change a field of the configuration of all methods, e.g. agent.learning_rate=1e-3."""
    out: Folder = None
    """Folder of the study (default: runs/compare-NAME of a study file, else runs/compare-DATE-TIME)."""
    resume: Flag = False
    """Go on with the study in the folder; finished runs are not repeated, more seeds or methods may be added."""
    retry_failed: Flag = False
    """With --resume: also run again what failed by itself."""
    processes: Count = None
    """Processes at a time, one thread each (default: one per usable core, half as many if runs work on two)."""
    against: File = None
    """CSV file of published scores (name, env, score, ...), shown beside the runs as anchors."""
    no_stack: Flag = False
    """Train every seed in a process of its own, also where several seeds in one process cost less."""
    prices: File = None
    """Your own TOML price file, merged over the package's (default: $FRUGALRL_PRICES)."""
    quiet: Flag = False
    """Print only failures and the table."""
    json: Flag = False
    """Print one JSON object at the end and nothing else on stdout; progress goes to stderr."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Eval:
    """Score the last checkpoint of a run on new episodes."""

    run: RunFolderArgument
    """Folder of the run."""
    episodes: Count = None
    """Episodes to play (default: the final number of the run's protocol)."""
    seed: Seed = None
    """Seed of the episodes (default: the run's evaluation seed)."""
    actions: Actions = None
    """The best action, or one drawn from an actor-critic's policy (default: as the run's own evaluations)."""
    json: Flag = False
    """Print one JSON object and nothing else on stdout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """Film the last checkpoint of a run: the game and what its policy thinks of it."""

    run: RunFolderArgument
    """Folder of the run."""
    video: Annotated[Path, arg(metavar="FILE", help_behavior_hint="")]
    """Video to write, .mp4 or .gif; without an ffmpeg an .mp4 becomes a .gif."""
    episodes: Count = None
    """Episodes to play (default: 1)."""
    seed: Seed = None
    """Seed of the episodes (default: the run's evaluation seed)."""
    max_steps: Steps = None
    """Stop after N agent steps in all (default: 5,000)."""
    fps: Rate = None
    """Frames per second, one frame per agent step (default: the speed of the game)."""
    json: Flag = False
    """Print one JSON object and nothing else on stdout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Write the policy of the last checkpoint as a file that needs no frugalrl."""

    run: RunFolderArgument
    """Folder of the run."""
    to: Format
    """Format: a torch.export program (.pt2), or ONNX (.onnx)."""
    out: File = None
    """File to write (default: policy.pt2 or policy.onnx in the run's folder); FILE.json goes beside it."""
    json: Flag = False
    """Print one JSON object and nothing else on stdout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BillOf:
    """Show the bill of a run, or those of several and their sum."""

    runs: RunFolders
    """Folders of runs, or folders that hold some."""
    json: Flag = False
    """Print one JSON object and nothing else on stdout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Write the comparison of runs as one HTML file, with its figures and tables beside it."""

    runs: RunFolders
    """Folders of runs, of studies, or folders that hold some."""
    out: File = None
    """HTML file to write (default: report.html in the only folder named, else here); figures/ goes beside it."""
    baseline: Name = None
    """Method that the others are compared with (default: the study's, else epsilon-greedy, else the first)."""
    target: Numbers = ()
    """Mean returns whose cost is compared (default: the study's, else 25, 50, 75 and 100 % of the reference score)."""
    against: File = None
    """CSV file with scores from elsewhere, columns name, env, score, shown as anchors."""
    prices: File = None
    """Your own TOML price file, merged over the package's (default: $FRUGALRL_PRICES)."""
    json: Flag = False
    """Also print the comparison as one JSON object on stdout; sentences go to stderr."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reprice:
    """Compare runs as they would be on another machine or with another simulator."""

    runs: RunFolders
    """Folders of runs, or folders that hold some."""
    on: Name = None
    """Machine to model seconds, joules and money for (default: the one of the runs; see 'frugal list machines')."""
    env_step_ms: Milliseconds = None
    """Milliseconds of one environment step, in place of what the environment took."""
    baseline: Name = None
    """Method that the others are compared with (default: epsilon-greedy, else the first)."""
    target: Numbers = ()
    """Mean returns whose cost is compared (default: 25, 50, 75 and 100 % of the way to the reference score)."""
    prices: File = None
    """Your own TOML price file, merged over the package's (default: $FRUGALRL_PRICES)."""
    json: Flag = False
    """Print one JSON object and nothing else on stdout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MismatchOf:
    """Say how far a sampler is from its learner, and name what is probably wrong."""

    place: Annotated[Positional[Path], arg(metavar="RUN|FILE.npz", help_behavior_hint="")]
    """Folder of a run, or a file with log_pi and log_mu, perhaps mask and advantage: [B, T] or [N]."""
    correction: Name = None
    """What is done with the ratios, e.g. sequence-mask:0.5,2 (default: the run's own; token-tis:2 for a file)."""
    strict: Flag = False
    """Exit with 1 when there is a warning."""
    json: Flag = False
    """Print one JSON object and nothing else on stdout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """List what can be named: recipes, envs, explorers, transforms, machines or prices."""

    topic: Annotated[
        Positional[str], arg(metavar="recipes|envs|explorers|transforms|machines|prices", help_behavior_hint="")
    ]
    """What to list."""
    prices: File = None
    """Your own TOML price file, merged over the package's (default: $FRUGALRL_PRICES)."""
    json: Flag = False
    """Print one JSON object and nothing else on stdout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduce:
    """Put a published claim to the test: chain."""

    topic: Annotated[Positional[str], arg(metavar="chain", help_behavior_hint="")]
    """What to reproduce. chain: CoAct, epsilon-greedy, mixtures of both and UCB on the chain of "Counteractive RL"."""
    seeds: Count = None
    """Seeds of every method in every setting, 10 or more (default: 200; 50 with --quick)."""
    gamma: Numbers = ()
    """Discount factors (default: 0.9 0.99)."""
    alpha: Numbers = ()
    """Step sizes (default: 0.1 0.3 0.5 0.9)."""
    eps: Numbers = ()
    """Exploration probabilities (default: 0.05 0.15 0.25)."""
    quick: Flag = False
    """Four settings (alpha 0.3 0.9, eps 0.15), unless they are named."""
    out: Folder = None
    """Folder of the results (default: runs/chain-DATE-TIME)."""
    overwrite: Flag = False
    """Replace the results of an earlier study in the folder; other files stay."""
    processes: Count = None
    """Processes to use (default: one per usable core); their number does not change the results."""
    json: Flag = False
    """Print one JSON object at the end and nothing else on stdout; the rest goes to stderr."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doctor:
    """Say what can be measured here, what will be modelled, and what is chosen why."""

    machine: Name = None
    """Machine profile (default: detected; see 'frugal list machines')."""
    prices: File = None
    """Your own TOML price file, merged over the package's (default: $FRUGALRL_PRICES)."""
    json: Flag = False
    """Print one JSON object and nothing else on stdout."""

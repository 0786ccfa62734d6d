"""Exploration rules: pure functions that return the action and the probability with which it was chosen.

An exploration rule takes the Q-values of the acting network, the observations, and three uniform draws per row, all
from the row's own stream, so rows never share a draw (`View`). It answers action, log mu and a flag (`Choice`). log mu
is exact given Q, the observation and, for the few rules that remember something, their memory.

Actor-critics have rules of their own, over the logits of their policy: `POLICY_EXPLORERS`.

To add a rule: write one function with the signature `ChooseFn` and give it one entry in `EXPLORERS`.
"""

from __future__ import annotations

from frugalrl.math.explore.counts import ucb, ucb_start
from frugalrl.math.explore.evaluation import Actions, evaluated
from frugalrl.math.explore.family import counteractive, epsilon_greedy, mixture, uniform
from frugalrl.math.explore.persistent import ez_end, ez_explores, ez_greedy, ez_start, fixed_random
from frugalrl.math.explore.policy import policy, policy_counteractive, policy_uniform
from frugalrl.math.explore.rule import Choice, ChooseFn, Explorer, Knobs, Memory, View, below_eps, needed_q
from frugalrl.math.explore.soft import boltzmann, softmin

__all__ = [
    "EXPLORERS",
    "POLICY_EXPLORERS",
    "Actions",
    "Choice",
    "ChooseFn",
    "Explorer",
    "Knobs",
    "Memory",
    "View",
    "counteractive",
    "epsilon_greedy",
    "evaluated",
    "mixture",
    "uniform",
]

EXPLORERS: dict[str, Explorer] = {
    e.name: e
    for e in (
        Explorer(
            name="epsilon-greedy",
            choose=lambda view, memory: epsilon_greedy(view.q, view.eps, view.u, num_actions=view.num_actions),
            knobs=("epsilon",),
            full_support=True,
            explores=below_eps,
            doc="a uniform action with probability eps, else argmax Q",
        ),
        Explorer(
            name="counteractive",
            choose=lambda view, memory: counteractive(needed_q(view, "counteractive"), view.eps, view.u),
            knobs=("epsilon",),
            full_support=False,
            doc="argmin Q with probability eps, else argmax Q (CoAct TD)",
        ),
        Explorer(
            name="counteractive-mixed",
            choose=lambda view, memory: mixture(
                needed_q(view, "counteractive-mixed"), view.eps, view.u, view.knobs.uniform_share
            ),
            knobs=("epsilon", "uniform_share"),
            full_support=True,
            doc="with probability eps a uniform action (share p) or argmin Q (share 1-p), else argmax Q",
        ),
        Explorer(
            name="softmin",
            choose=softmin,
            knobs=("epsilon", "temperature"),
            full_support=True,
            doc="with probability eps an action drawn by softmax(-Q / T), else argmax Q",
        ),
        Explorer(
            name="boltzmann",
            choose=boltzmann,
            knobs=("temperature",),
            full_support=True,
            doc="an action drawn by softmax(Q / T); no epsilon",
        ),
        Explorer(
            name="epsilon-z-greedy",
            choose=ez_greedy,
            knobs=("epsilon", "ez_mu", "ez_max_steps"),
            full_support=False,
            explores=ez_explores,
            start=ez_start,
            end=ez_end,
            doc="with probability eps one uniform action for n steps, n zeta-distributed, else argmax Q",
        ),
        Explorer(
            name="fixed-random",
            choose=fixed_random,
            knobs=("epsilon",),
            full_support=False,
            explores=below_eps,
            doc="with probability eps an arbitrary action, always the same in a state, else argmax Q",
        ),
        Explorer(
            name="ucb",
            choose=ucb,
            knobs=("ucb_c",),
            full_support=False,
            start=ucb_start,
            doc="argmax of Q + c sqrt(log t / N(s, a)), for index observations; no epsilon",
        ),
    )
}

POLICY_EXPLORERS: dict[str, Explorer] = {
    e.name: e
    for e in (
        Explorer(
            name="policy",
            choose=policy,
            knobs=(),
            full_support=True,
            doc="an action of the policy pi; no epsilon",
        ),
        Explorer(
            name="counteractive",
            choose=policy_counteractive,
            knobs=("epsilon",),
            full_support=True,
            doc="with probability eps the action that pi likes least, else an action of pi",
        ),
        Explorer(
            name="uniform",
            choose=policy_uniform,
            knobs=("epsilon",),
            full_support=True,
            doc="with probability eps a uniform action, else an action of pi",
        ),
    )
}
"""The rules of actor-critics by the names that ``--explore`` knows there; ``View.q`` holds logits."""

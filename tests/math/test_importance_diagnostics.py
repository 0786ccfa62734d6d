"""Diagnostics: against their definitions, merged over batches, and which warning names which mistake."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.importance import Correction, Mismatch, apply, correct, find, measure
from frugalrl.math.importance.histogram import BINS, counts, quantile
from oracles.importance import Bandit, log_softmax
from oracles.samplers import BROKEN, HEALTHY, quantised, recorded

PREFIX = "mismatch_"


def sample(seed: int = 0, rows: int = 40, steps: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    log_mu = -rng.exponential(1.0, (rows, steps)) - 1.0
    mask = rng.random((rows, steps)) < 0.8
    mask[0] = False
    return np.minimum(log_mu + 0.4 * rng.normal(size=(rows, steps)), 0.0), log_mu, mask


def slow_metrics(log_pi: np.ndarray, log_mu: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Written out from the definitions; those of the table in docs/importance.md."""
    y, x = log_pi[mask], log_mu[mask]
    d = y - x
    rho, n = np.exp(d), len(d)
    dp = np.abs(np.exp(x) - np.exp(y))
    rows = [(log_pi[b][m], log_mu[b][m]) for b, m in enumerate(mask) if m.any()]
    total = np.array([(p - q).sum() for p, q in rows])
    length = np.array([len(p) for p, _ in rows])
    product = np.exp(total)
    mixture = np.log((1.0 + rho) / 2.0)
    pairs = [(b, t) for b in range(len(mask)) for t in range(mask.shape[1] - 1) if mask[b, t] and mask[b, t + 1]]
    after = np.mean([log_pi[b, t] * log_mu[b, t + 1] for b, t in pairs]) - x.mean() * y.mean()
    error = np.array([math.exp(np.abs(p - q).mean()) for p, q in rows])
    spread = ((total - d.mean() * length) ** 2).sum() * len(rows) / (len(rows) - 1)
    return {
        "k1": -d.mean(), "k1_se": math.sqrt(spread) / n, "k2": (d**2).mean() / 2, "k3": (rho - 1 - d).mean(),
        "reverse_kl": (rho * d - rho + 1).mean(), "js": (-mixture + rho * (d - mixture)).mean() / 2,
        "chi2": (rho**2).mean() - 1, "tv": np.maximum(1 - rho, 0).mean(), "abs_log_diff": np.abs(d).mean(),
        "mult_error": np.exp(np.abs(d)).mean(), "prob_diff": dp.mean(), "prob_diff_std": dp.std(),
        "prob_diff_max": dp.max(), "ratio_mean": rho.mean(), "ratio_std": rho.std(), "ratio_min": rho.min(),
        "ratio_max": rho.max(), "ratio_above": np.maximum(rho - 1, 0).mean(),
        "ess": rho.sum() ** 2 / n / (rho**2).sum(),
        "slope": np.cov(x, y)[0, 1] / np.var(x, ddof=1), "slope_inverse": np.var(y, ddof=1) / np.cov(x, y)[0, 1],
        "correlation": np.corrcoef(x, y)[0, 1], "slope_share": np.corrcoef(d, x + y)[0, 1] ** 2,
        "correlation_next": after / x.std() / y.std(), "spread_mu": x.std(),
        "length": length.mean(), "k1_sequence": -total.mean(), "log_ratio_sequence_std": total.std(),
        "log_ratio_sequence_max": np.abs(total).max(), "chi2_sequence_log1p": math.log((product**2).mean()),
        "ess_sequence": product.sum() ** 2 / len(rows) / (product**2).sum(), "mult_error_sequence": error.mean(),
        "mult_error_sequence_max": error.max(), "tokens": n, "clipped_high_share": (rho > 1.3).mean(),
        "perplexity_ratio": np.mean([math.exp(-p.mean()) for p, _ in rows])
        / np.mean([math.exp(-q.mean()) for _, q in rows]),
        "weight_mean": np.minimum(rho, 1.3).mean(), "masked_share": 0.0, "missing_share": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_metrics_equal_their_definitions(library: str) -> None:
    arrays = sample()
    found = correct(*(arrays if library == "numpy" else map(torch.from_numpy, arrays)), high=1.3).metrics
    for name, value in slow_metrics(*arrays).items():
        assert found[PREFIX + name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_the_tensor_path_equals_that_of_numpy() -> None:
    """Tensors of the CPU are read as numpy arrays; those of another device are not."""
    from frugalrl.math.importance import sums

    arrays = sample()
    right = measure(correct(*arrays, mode="mask", low=0.5, high=1.3))
    plain, sums._plain = sums._plain, lambda x: x
    try:
        found = measure(correct(*map(torch.from_numpy, arrays), mode="mask", low=0.5, high=1.3))
    finally:
        sums._plain = plain
    np.testing.assert_allclose(found.sums, right.sums, rtol=1e-9)
    np.testing.assert_allclose(found.largest, right.largest, rtol=1e-9)
    np.testing.assert_array_equal(found.histogram, right.histogram)


def test_batches_merge_as_sums_and_not_as_means() -> None:
    log_pi, log_mu, mask = sample()
    cut = [slice(0, 7), slice(7, 12), slice(12, 40)]
    correction = Correction.parse("token-mask:0.5,1.5")
    parts = [apply(correction, log_pi[i], log_mu[i], mask[i]) for i in cut]
    whole = apply(correction, log_pi, log_mu, mask).metrics
    first, second, third = (p.mismatch for p in parts)
    for merged in ((first + second) + third, third + (second + first)):
        for name, value in merged.metrics().items():
            assert value == pytest.approx(whole[name], rel=1e-9, abs=1e-12, nan_ok=True), name
    averaged = np.mean([p.metrics[PREFIX + "ess"] for p in parts])
    assert averaged != pytest.approx(whole[PREFIX + "ess"], rel=1e-3)


def test_parts_of_ranks_join() -> None:
    """What a rank sends: a vector to add, one to take the maximum of, and counts to add."""
    log_pi, log_mu, mask = sample()
    a, b = (measure(correct(log_pi[i], log_mu[i], mask[i], high=2.0)) for i in (slice(0, 9), slice(9, 40)))
    joined = Mismatch(a.sums + b.sums, np.maximum(a.largest, b.largest), a.histogram + b.histogram)
    assert joined.metrics() == pytest.approx((a + b).metrics(), nan_ok=True)


def test_metrics_are_of_raw_ratios() -> None:
    """A cap changes what is done, not what is said: p99 and maximum are not held at 1.3."""
    arrays = sample()
    capped, free = correct(*arrays, high=1.3).metrics, correct(*arrays, mode="vanilla").metrics
    assert free[PREFIX + "ratio_p99"] > 1.5
    same = [k for k in capped if k[len(PREFIX) :] not in ("clipped_high_share", "weight_mean", "ess_weight")]
    assert {k: capped[k] for k in same} == pytest.approx({k: free[k] for k in same}, nan_ok=True)


def test_quantiles_come_from_a_fixed_histogram() -> None:
    rng = np.random.default_rng(3)
    for scale in (1e-3, 0.05, 1.0):
        d = scale * rng.normal(size=(500, 20))
        found = counts(np, d, np.ones_like(d, np.bool_))
        assert found.shape == (BINS,)
        assert found.sum() == d.size
        for share in (0.01, 0.5, 0.99):
            assert quantile(found, share) == pytest.approx(np.quantile(d, share), rel=0.05, abs=1e-4)
    assert math.isnan(quantile(np.zeros(BINS, np.int64), 0.5))
    ends = counts(np, np.array([-1e9, 1e9]), np.ones(2, np.bool_))
    assert ends[0] == ends[-1] == 1


def test_one_action_of_a_control_policy_is_a_sequence_of_one() -> None:
    log_pi, log_mu, _ = sample()
    flat = correct(log_pi.ravel(), log_mu.ravel(), high=2.0).metrics
    column = correct(log_pi.reshape(-1, 1), log_mu.reshape(-1, 1), high=2.0).metrics
    assert flat[PREFIX + "length"] == 1.0
    for name in ("ess", "ess_sequence", "k1_se", "k1_sequence", "correlation"):
        assert flat[PREFIX + name] == pytest.approx(column[PREFIX + name])


def test_expectations_by_enumeration() -> None:
    """Over all actions with their probabilities: E[rho] = 1, E[k1] = E[k3] = KL, JS and total variation as defined."""
    bandit = Bandit.draw(0, 0.7)
    times = 200_000
    log_pi, log_mu = bandit.log_pi, bandit.log_mu
    pi, mu = np.exp(log_pi), np.exp(log_mu)
    counted = np.round(mu * times).astype(int)
    repeated = [np.repeat(x, counted) for x in (log_pi, log_mu)]
    found = correct(*repeated, high=2.0).metrics
    mixture = np.log((pi + mu) / 2)
    kl = mu @ (log_mu - log_pi)
    js = 0.5 * (mu @ (log_mu - mixture)) + 0.5 * (pi @ (log_pi - mixture))
    exact = {
        "ratio_mean": 1.0,
        "k1": kl,
        "k3": kl,
        "js": js,
        "tv": 0.5 * np.abs(pi - mu).sum(),
        "chi2": (pi**2 / mu).sum() - 1,
    }
    exact["reverse_kl"] = pi @ (log_pi - log_mu)
    for name, value in exact.items():
        assert found[PREFIX + name] == pytest.approx(value, rel=2e-3), name
    assert mu @ (mu / pi) - 1 - kl != pytest.approx(exact["reverse_kl"], rel=2e-2)  # 1/rho - 1 + d, for samples of pi


def test_the_line_through_log_odds_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(4)
    p, q = rng.uniform(0.3, 0.999, (2, 50, 8))
    p[0, :3], q[0, :3] = 1.0 - 1e-6, 1.0 - 1e-3  # too sure: what is left to 1 is rounding
    mask = rng.random(p.shape) < 0.8
    found = correct(np.log(p), np.log(q), mask, high=2.0).metrics
    sure = mask & (p * q > 0.25) & (np.maximum(p, q) < math.exp(-1e-4))
    assert not sure[0, :3].any()
    of_pi, of_mu = (np.log(x[sure] / (1 - x[sure])) for x in (p, q))
    gap, odds = of_pi - of_mu, (of_pi + of_mu) / 2
    line = np.polyval(np.polyfit(odds, gap, 1), odds)
    right = {"sure_tokens": sure.sum(), "odds_gap": gap.mean(), "odds_share": (line**2).sum() / (gap**2).sum()}
    for name, value in right.items():
        assert found[PREFIX + name] == pytest.approx(value), name
    assert ((line - gap.mean()) ** 2).sum() / ((gap - gap.mean()) ** 2).sum() != pytest.approx(right["odds_share"])


# -- warnings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BROKEN)
def test_each_mistake_has_its_name_first(how: str) -> None:
    for seed in range(4):
        found = correct(*recorded(how, seed), high=2.0).warnings
        assert found, f"nothing was found for seed {seed}"
        assert found[0].name == BROKEN[how]
        assert {w.name for w in found[1:]} <= {"low ESS"}, "a consequence, and no other cause"
        for w in found:
            assert any(c.isdigit() for c in w.evidence), "the evidence has a number"
            assert w.evidence.endswith(".")
            assert w.advice.endswith(".")


@pytest.mark.parametrize("how", HEALTHY)
def test_healthy_samplers_are_not_warned_about(how: str) -> None:
    for seed in range(25):
        assert correct(*recorded(how, seed), high=2.0).warnings == [], f"seed {seed}"
        assert correct(*recorded(how, seed, rows=3), high=2.0).warnings == [], f"seed {seed}, few tokens"


@pytest.mark.parametrize("how", ["temperature 0.6", "top-p 0.9", "shifted"])
def test_tokens_without_a_number_hide_no_other_cause(how: str) -> None:
    log_pi, log_mu = recorded(how)
    log_mu[5, 3] = np.nan
    assert [f.name for f in correct(log_pi, log_mu, high=2.0).warnings[:2]] == ["missing log-probs", BROKEN[how]]


def test_a_coarse_control_policy_has_no_other_temperature() -> None:
    """Of two actions, sure of most: the line through all log-probabilities takes 4 bits for a temperature."""
    for seed in range(8):
        rng = np.random.default_rng((2, 20, seed))
        layers = [gain * rng.normal(size=(n, m)) / math.sqrt(n) for n, m, gain in
                  ((8, 64, 1.5), (64, 64, 1.5), (64, 2, 20.0))]  # fmt: skip
        x, log_policies = rng.normal(size=(2048, 8)), []
        for weights in (layers, [quantised(w.T, 4).T for w in layers]):
            hidden = np.tanh(np.tanh(x @ weights[0]) @ weights[1])
            log_policies.append(log_softmax(hidden @ weights[2]))
        for log_mu, named in ((log_policies[1], []), (log_softmax(log_policies[0] / 0.9), ["temperature mismatch"])):
            action = (log_mu + rng.gumbel(size=log_mu.shape)).argmax(-1)[:, None]
            taken = [np.take_along_axis(y, action, 1)[:, 0] for y in (log_policies[0], log_mu)]
            assert [w.name for w in correct(*taken, high=2.0).warnings] == named, f"seed {seed}"


def test_tokens_that_belong_to_others_are_known_without_neighbours() -> None:
    """Shuffled actions without sequences; two policies that have little in common are no such thing."""
    log_pi, log_mu = (x.ravel() for x in recorded("fp32"))
    order = np.random.default_rng(0).permutation(len(log_pi))
    assert correct(log_pi[order], log_mu, high=2.0).warnings[0].name == "shifted tokens"
    rng = np.random.default_rng(1)
    tables = [log_softmax(scale * rng.normal(size=(4000, 4))) for scale in (0.7, 0.7)]
    action = (tables[1] + rng.gumbel(size=(4000, 4))).argmax(-1)
    far = [x[np.arange(4000), action] for x in tables]
    found = correct(*far, high=2.0)
    assert abs(found.metrics[PREFIX + "correlation"]) < 0.1
    assert found.warnings == []


def test_the_length_trap_needs_a_product_and_a_length() -> None:
    rng = np.random.default_rng(0)
    log_mu = -rng.exponential(1.0, (8, 300)) - 0.5
    log_pi = np.minimum(log_mu - 0.012 + 0.02 * rng.normal(size=log_mu.shape), 0.0)
    names = {
        name: [w.name for w in apply(Correction.parse(name), log_pi, log_mu).warnings]
        for name in ("token-tis:2", "geometric-tis:2", "sequence-tis:3", "sequence-mask:0.5,2")
    }
    assert names["token-tis:2"] == names["geometric-tis:2"] == []
    assert "length trap" in names["sequence-tis:3"]
    assert {"length trap", "too much masked"} <= set(names["sequence-mask:0.5,2"])
    short = apply(Correction.parse("sequence-tis:3"), log_pi[:, :10], log_mu[:, :10]).warnings
    assert short == []
    clamped = apply(Correction.parse("sequence-vanilla"), log_pi - 0.1, log_mu).warnings
    assert any("where exp is clamped" in w.evidence for w in clamped)


@pytest.mark.parametrize("far", [-4.0, -8.0, -10.0, -12.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ess_of_ratios_far_below_one(far: float, dtype: Any) -> None:
    d = (far + 0.3 * np.random.default_rng(0).normal(size=2000)).astype(dtype)
    log_mu = np.full(2000, -0.5, dtype)
    rho = np.exp((log_mu + d).astype(np.float64) - log_mu.astype(np.float64))
    found = correct(log_mu + d, log_mu, high=2.0).mismatch.metrics()
    assert found["mismatch_ess"] == pytest.approx(rho.sum() ** 2 / (2000 * (rho**2).sum()), rel=1e-4)
    assert found["mismatch_ratio_std"] == pytest.approx(rho.std(), rel=1e-3)


def test_low_ess_is_said_of_the_level_that_is_used() -> None:
    rng = np.random.default_rng(1)
    log_mu = -rng.exponential(1.0, (200, 12)) - 1.5
    log_pi = np.minimum(log_mu + 0.45 * rng.normal(size=log_mu.shape) - 0.1, 0.0)
    assert correct(log_pi, log_mu, high=2.0).warnings == []
    sequence = correct(log_pi, log_mu, level="sequence", high=2.0).warnings
    assert [w.name for w in sequence if w.name == "low ESS"]
    assert "per sequence" in str(sequence[-1])


def test_metrics_of_a_log_are_enough_and_strangers_are_ignored() -> None:
    metrics = correct(*recorded("temperature 0.6"), high=2.0).metrics
    assert find({**metrics, "loss": 1.0})[0].name == "temperature mismatch"
    assert find({"loss": 1.0}) == []
    assert find(dict.fromkeys(metrics)) == []  # type: ignore[dict-item, misc]


def test_an_epsilon_mixture_with_the_exact_log_mu_has_a_mean_ratio_of_1() -> None:
    """Exploration on purpose, as in control policies: truncation and missing numbers are not suspected."""
    rng = np.random.default_rng(2)
    log_pi = log_softmax(rng.normal(size=(4000, 6)))
    mu = 0.9 * np.exp(log_pi) + 0.1 / 6
    action = (np.log(mu) + rng.gumbel(size=mu.shape)).argmax(-1)[:, None]
    taken = [np.take_along_axis(x, action, 1)[:, 0] for x in (log_pi, np.log(mu))]
    found = correct(*taken, high=1.0)
    assert found.metrics[PREFIX + "ratio_mean"] == pytest.approx(1.0, abs=0.01)
    assert {w.name for w in found.warnings} <= {"temperature mismatch"}


@pytest.mark.gpu
def test_a_device_gives_what_the_processor_gives() -> None:
    arrays = [torch.from_numpy(x) for x in sample()]
    for name in ("token-tis:1.3", "sequence-mask:0.5,2+normalize", "vanilla+k3-mean:0.1"):
        here = apply(Correction.parse(name), *arrays)
        there = apply(Correction.parse(name), *(x.cuda() for x in arrays))
        assert there.weight.device.type == "cuda"
        torch.testing.assert_close(there.weight.cpu(), here.weight)
        np.testing.assert_allclose(there.mismatch.sums, here.mismatch.sums, rtol=1e-9)
        np.testing.assert_array_equal(there.mismatch.histogram, here.mismatch.histogram)
        assert [w.name for w in there.warnings] == [w.name for w in here.warnings]

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from frugalrl.cost import (
    Bill,
    BillRow,
    Ledger,
    Machine,
    Tables,
    Total,
    bill_from_json,
    cost_so_far_eur,
    figure,
    make_bill,
    render,
    score_row,
    to_json,
)
from frugalrl.cost.bill import _warnings
from frugalrl.cost.record import sum_rows
from frugalrl.types import HOWS, ROLES, Cost, How, UserError

Make = Callable[..., Machine]


def ledger_of_a_run(*, gpu: bool = False) -> Ledger:
    """Two hours of wall and CPU time in an earlier process, charged to the roles."""
    ledger = Ledger(whole_process=False)
    session = {"cpu_s": 7200.0, "wall_s": 7200.0, "peak_rss_bytes": 10**9, "peak_gpu_bytes": None}
    empty = ledger.state_dict()
    ledger.load_state_dict({**empty, "sessions": {"0": {**session, "cpu_j": None, "gpu_j": None}}})
    gpu_s = 1000.0 if gpu else None
    ledger.charge("learner", Cost(calls=10, cpu_s=4000.0, busy_s=4000.0, flop=3e15, bytes_min=2e12, gpu_s=gpu_s))
    ledger.charge("inference", Cost(calls=40, cpu_s=1000.0, busy_s=1000.0, flop=1e15))
    ledger.charge("environment", Cost(calls=40, cpu_s=2000.0, busy_s=1900.0))
    ledger.charge("evaluation", Cost(cpu_s=100.0, busy_s=100.0))
    ledger.count(agent_steps=40, frames=160, updates=10, episodes=2, invalid_rows=2)
    return ledger


@pytest.fixture
def bill(tables: Tables, machine: Make) -> Bill:
    scores = [
        score_row("mean return", 12.5, unit="raw return", source="10 episodes, cap 27,000", interval=(10.0, 15.0))
    ]
    about = {"env": "ALE/Pong-v5", "recipe": "atari100k-ddqn", "explorer": "counteractive", "seed": "seed 0"}
    return make_bill(ledger_of_a_run(), machine(), tables, scores, about=about)


def test_roles_and_totals(bill: Bill) -> None:
    assert bill.find("cpu_s", "learner").value == 4000.0
    assert bill.find("cpu_share", "learner").value == pytest.approx(100 * 4000 / 7200, rel=1e-3)
    assert bill.find("cpu_s", "unassigned").value == pytest.approx(100.0, abs=1)
    assert bill.find("busy_s", "waiting").value == pytest.approx(200.0, abs=5)
    assert bill.total("cpu_s").known == pytest.approx(bill.find("cpu_s").value)
    assert bill.find("agent_steps").value == 40
    assert bill.find("updates_per_step").value == 0.25
    assert bill.find("steps_per_cpu_s").value == pytest.approx(40 / 7200, rel=1e-3)
    with pytest.raises(KeyError):
        bill.find("cpu_s", "transport")


def test_a_total_lists_the_roles_that_are_not_measured(bill: Bill) -> None:
    assert bill.total("flop") == Total(4e15, ("evaluation",), "counted")
    assert bill.total("bytes_min") == Total(2e12, ("inference", "evaluation"), "modelled")
    assert bill.find("flop", "evaluation").value is None
    assert "not measured: evaluation" in bill.find("flop").source
    with pytest.raises(KeyError):
        bill.find("flop", "environment")  # no matrix products there: no question


def test_energy_and_money(bill: Bill, tables: Tables, machine: Make) -> None:
    joules = 7200 * 5 + 7200 * 5
    assert bill.find("cpu_j").value == pytest.approx(7200 * 5, rel=1e-3)
    assert bill.find("energy_j").value == pytest.approx(joules, rel=1e-3)
    assert bill.find("energy_j").how == "modelled"
    assert bill.find("on_demand_eur").value == pytest.approx(0.2, rel=1e-3)
    assert bill.find("spot_eur").value == pytest.approx(0.08, rel=1e-3)
    assert bill.find("owned_eur").value is None
    assert bill.find("electricity_eur").value == pytest.approx(joules / 3.6e6 * 0.3, rel=1e-3)
    assert {bill.find(f"{k}_eur").how for k in ("on_demand", "spot", "electricity")} == {"assumed"}
    own = make_bill(ledger_of_a_run(), machine("laptop-4c"), tables)
    power = own.find("electricity_eur").value
    assert power is not None
    assert own.find("owned_eur").value == pytest.approx(2 * 0.15 + power, rel=1e-3)
    assert "1200 EUR over 4 years" in own.find("owned_eur").source
    priceless = make_bill(ledger_of_a_run(), replace(machine(), price=None), tables)
    assert priceless.find("on_demand_eur").value is None


def test_measured_joules_replace_the_model(tables: Tables, machine: Make) -> None:
    class Counter:
        def joules(self) -> tuple[float | None, float | None]:
            return 11.0, 22.0

    ledger = Ledger(whole_process=False, energy=Counter())
    bill = make_bill(ledger, machine("workstation-1gpu", ("RTX",)), tables)
    assert (bill.find("cpu_j").value, bill.find("cpu_j").how) == (11.0, "measured")
    assert (bill.find("gpu_j").value, bill.find("gpu_j").how) == (22.0, "measured")
    assert "upper bound" in bill.find("idle_j").source
    ledger.charge("redone", Cost(cpu_s=1.0))
    after_a_kill = make_bill(ledger, machine("workstation-1gpu", ("RTX",)), tables).find("gpu_j")
    assert (after_a_kill.value, after_a_kill.how) == (22.0, "modelled")
    assert "lost work at the mean watts" in after_a_kill.source
    later = Ledger(whole_process=False)
    later.load_state_dict(ledger.state_dict())
    assert make_bill(later, machine(), tables).find("cpu_j").how == "modelled", "one process had no counter"


def moved(before: str, here: str, **more: float) -> Ledger:
    """Two hours on another machine, then this process."""
    first, ledger = Ledger(whole_process=False, profile=before), Ledger(whole_process=False, profile=here)
    state = first.state_dict()
    state["sessions"]["0"] |= {"cpu_s": 3600.0, "wall_s": 7200.0, **more}
    ledger.load_state_dict(state)
    return ledger


def test_each_machine_of_a_run_is_charged_at_its_own_price(tables: Tables, machine: Make) -> None:
    """Two hours at 0.10 EUR that went on on a machine of 4.00 EUR were billed as eight euro."""
    here = machine("cloud-h100", ("NVIDIA H100",))
    bill = make_bill(moved("cloud-2vcpu", "cloud-h100"), here, tables)
    assert bill.find("on_demand_eur").value == pytest.approx(2 * 0.10, abs=0.01)
    assert "2 h x 0.1 EUR/h, cloud-2vcpu" in bill.find("on_demand_eur").source
    assert "EUR/h, cloud-h100" in bill.find("on_demand_eur").source
    assert bill.find("spot_eur").value == pytest.approx(2 * 0.04, abs=0.01)
    assert bill.find("owned_eur").value is None, "nobody owns the first"
    assert bill.find("cpu_j").value == pytest.approx(3600 * 5, rel=1e-3)
    assert bill.find("idle_j").value == pytest.approx(7200 * 5, abs=100)
    assert cost_so_far_eur(moved("cloud-2vcpu", "cloud-h100"), here, tables) == pytest.approx(0.2, abs=0.01)
    same = make_bill(moved("cloud-h100", "cloud-h100"), here, tables)
    assert same.find("on_demand_eur").value == pytest.approx(8.0, abs=0.01)


def test_joules_of_a_gpu_stay_on_the_bill_of_a_run_that_leaves_it(tables: Tables, machine: Make) -> None:
    """They became 0 J, "no GPU", when the run went on on a machine without one."""
    bill = make_bill(moved("cloud-h100", "cloud-2vcpu", gpu_j=5e5), machine(), tables)
    assert (bill.find("gpu_j").value, bill.find("gpu_j").how) == (5e5, "measured")
    ledger = moved("cloud-h100", "cloud-2vcpu")
    ledger.charge("learner", Cost(cpu_s=1.0, gpu_s=1000.0))
    modelled = make_bill(ledger, machine(), tables).find("gpu_j")
    assert modelled.value == pytest.approx(1000 * 700 + 6200 * 70)


def test_a_machine_that_no_table_knows_any_more_leaves_no_sum(tables: Tables, machine: Make) -> None:
    bill = make_bill(moved("my-desktop", "cloud-2vcpu"), machine(), tables)
    assert [bill.find(name).value for name in ("on_demand_eur", "cpu_j", "idle_j")] == [None, None, None]
    assert "no such price for machine 'my-desktop'" in bill.find("on_demand_eur").source
    with pytest.raises(UserError, match="machine 'my-desktop' has no price, so a budget in euro cannot be kept"):
        cost_so_far_eur(moved("my-desktop", "cloud-2vcpu"), machine(), tables)


def test_gpu_seconds_are_asked_for_only_with_a_gpu(bill: Bill, tables: Tables, machine: Make) -> None:
    assert bill.total("gpu_s") == Total(None, (), None)
    with_gpu = make_bill(ledger_of_a_run(gpu=True), machine("workstation-1gpu", ("RTX",)), tables)
    assert with_gpu.total("gpu_s") == Total(1000.0, ("inference", "evaluation"), "measured")
    assert with_gpu.find("gpu_j").value == pytest.approx(1000 * 300 + 6200 * 20, rel=1e-3)
    assert "wall time" in with_gpu.limit
    blind = make_bill(ledger_of_a_run(), machine("workstation-1gpu", ("RTX",)), tables)
    assert blind.find("gpu_j").value is None
    assert "not measured: gpu_j" in blind.find("energy_j").source


def test_the_limit_names_the_costliest_role(bill: Bill, tables: Tables, machine: Make) -> None:
    assert bill.limit.startswith("Limit: learner takes 56 % of the CPU-seconds; ")
    assert "\n" not in bill.limit
    busy = ledger_of_a_run()
    busy.charge("replay", Cost(cpu_s=9000.0))
    assert make_bill(busy, machine(), tables).limit.startswith("Limit: replay")


def test_warnings() -> None:
    costs = {"learner": Cost(cpu_s=60.0), "evaluation": Cost(cpu_s=25.0), "unassigned": Cost(cpu_s=10.0)}
    text = " ".join(_warnings({**costs, "checkpoint": Cost(cpu_s=5.0)}))
    assert "no role claims 10.0 %" in text
    assert "evaluation takes 25 %" in text
    assert "checkpoints take 5.0 %" in text
    assert _warnings({"learner": Cost(cpu_s=97.5), "unassigned": Cost(cpu_s=2.5)}) == ()
    assert "charged twice" in _warnings({"learner": Cost(cpu_s=110.0), "unassigned": Cost(cpu_s=-10.0)})[0]
    assert _warnings({}) == ()


def test_json_round_trip(bill: Bill) -> None:
    text = json.dumps(to_json(bill), allow_nan=False)
    assert json.loads(text)["schema"] == "frugalrl.bill/1"
    assert bill_from_json(json.loads(text)) == bill


rows = st.builds(
    BillRow,
    section=st.sampled_from(["score", "counts", "role", "use", "energy", "money"]),
    role=st.none() | st.sampled_from(ROLES),
    name=st.text(min_size=1, max_size=8),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    unit=st.text(max_size=3),
    interval=st.none() | st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)),
    how=st.sampled_from(HOWS),
    source=st.text(max_size=10),
)


@given(st.lists(rows, max_size=5))
def test_json_round_trip_of_any_rows(some: list[BillRow]) -> None:
    bill = Bill(machine={"gpus": []}, made="2026-11-22", rows=tuple(some), limit="x")
    assert bill_from_json(json.loads(json.dumps(to_json(bill), allow_nan=False))) == bill


@given(st.lists(st.tuples(st.none() | st.floats(0, 1e9), st.sampled_from(HOWS), st.sampled_from(ROLES))))
def test_total_algebra(parts: list[tuple[float | None, How, str]]) -> None:
    made = [
        BillRow(section="role", role=role, name="cpu_s", value=value, unit="s", how=how, source="")
        for value, how, role in parts
    ]
    total = sum_rows(made)
    known = [(v, how) for v, how, _ in parts if v is not None]
    assert total.not_measured == tuple(role for v, _, role in parts if v is None)
    if known:
        assert total.known == pytest.approx(sum(v for v, _ in known))
        assert total.how == HOWS[max(HOWS.index(how) for _, how in known)]
    else:
        assert (total.known, total.how) == (None, None)


def test_values_that_are_not_finite_are_not_measured(bill: Bill) -> None:
    odd = replace(bill, rows=(replace(bill.rows[0], value=float("nan")), replace(bill.rows[0], value=float("inf"))))
    assert [row["value"] for row in to_json(odd)["rows"]] == [None, None]


def test_another_schema_and_damage_are_refused(bill: Bill) -> None:
    data = to_json(bill)
    with pytest.raises(UserError, match=r"frugalrl\.bill/2"):
        bill_from_json({**data, "schema": "frugalrl.bill/2"})
    with pytest.raises(UserError, match="damaged"):
        bill_from_json({k: v for k, v in data.items() if k != "rows"})
    for change in ({"how": "guessed"}, {"section": "fun"}, {"extra": 1}):
        with pytest.raises(UserError, match="damaged"):
            bill_from_json({**data, "rows": [{**data["rows"][0], **change}]})


def shown(bill: Bill, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    render(bill, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_bill_fits_80_columns_and_says_not_measured(bill: Bill, tables: Tables, machine: Make) -> None:
    text = shown(bill)
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in (
        "ALE/Pong-v5 · atari100k-ddqn",
        "mean return",
        "12.5 raw return [10, 15]",
        "agent steps",
        "learner",
        "assumed",
    ):
        assert part in text
    assert "FLOPs: not measured for evaluation" in text
    line = next(line for line in text.splitlines() if line.startswith("evaluation"))
    assert " 0 " not in line
    assert "not" in line
    assert "…" not in "".join(line.split("  ")[0] for line in text.splitlines())
    gpu = shown(make_bill(ledger_of_a_run(gpu=True), machine("workstation-1gpu", ("RTX",)), tables))
    assert max(len(line) for line in gpu.splitlines()) <= 80
    table = gpu[gpu.index("role  ") : gpu.index("use, energy")]
    assert "GPU s" in table
    assert "bytes ≥" in table
    assert "…" not in table
    assert table.count("not") == table.count("measured") == 5


@pytest.mark.parametrize("width", range(40, 80, 5))
def test_no_figure_of_a_role_is_cut_in_a_narrow_terminal(width: int, bill: Bill, tables: Tables, machine: Make) -> None:
    gpu = make_bill(ledger_of_a_run(gpu=True), machine("workstation-1gpu", ("RTX",)), tables)
    for some in (bill, gpu):
        text, whole = shown(some, width), shown(some, 200)
        rows = {line.split()[0]: line.split()[1:] for line in whole.splitlines() if line.split()[:1]}
        for role in ("environment", "inference", "learner"):
            cells = next(line for line in text.splitlines() if line.startswith(role)).split()[1:]
            assert len(cells) > 2
            assert cells == rows[role][: len(cells)]


def test_an_empty_run_can_be_shown(tables: Tables, machine: Make) -> None:
    text = shown(make_bill(Ledger(whole_process=False), machine(), tables))
    assert "updates per step" in text
    assert "not measured" in text
    assert "Limit:" in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12345, "", "12,345"),
        (1.5e9, "B", "1.5 GB"),
        (999.9e6, "B", "1 GB"),
        (3.2e15, "FLOP", "3.2 P"),
        (0.25, "", "0.25"),
        (0.000123, "EUR", "0.00012 EUR"),
        (12.345, "EUR", "12.35 EUR"),
        (0, "J", "0 J"),
        (1234.5, "s", "1,234 s"),
        (2.0, "h", "2 h"),
        (-3, "", "-3"),
    ],
)
def test_figures(value: float, unit: str, text: str) -> None:
    assert figure(value, unit) == text


def test_a_narrow_terminal_loses_sources_first_and_says_so(bill: Bill, tables: Tables, machine: Make) -> None:
    gpu = make_bill(ledger_of_a_run(gpu=True), machine("workstation-1gpu", ("RTX",)), tables)

    def head(text: str, first: str) -> list[str]:
        return next(line for line in text.splitlines() if line.startswith(first)).split()

    for width, lost in ((64, "from (use, energy, money)"), (50, "bytes ≥; from (use, energy, money)"), (80, "")):
        text = shown(bill, width)
        told = " ".join(text.split())
        assert ("bytes" in head(text, "role ")) == ("bytes" not in lost)
        assert ("from" in head(text, "use, ")) == (not lost)
        assert ("too narrow" in told) == bool(lost)
        assert f"{lost}. A wider one" in told or not lost
    assert "too narrow" not in shown(gpu)
    assert "at" not in [line.strip() for line in shown(bill, 60).splitlines()], "a source of one word a line"


def test_nothing_is_assumed_of_what_is_not_known(bill: Bill) -> None:
    """A virtual machine has no price of its own; the JSON says how it would have been obtained."""
    assert (bill.find("owned_eur").value, bill.find("owned_eur").how) == (None, "assumed")
    (line,) = (line for line in shown(bill, 120).splitlines() if line.startswith("own machine"))
    assert line.split("  ")[0] == "own machine"
    assert "no price   not known" in line
    assert "assumed" not in line.partition("no such price")[0]

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from frugalrl.cost import Machine, Tables, cost_so_far_eur, detect_machine, eur_per_hour, load_tables, usable_cores
from frugalrl.cost.ledger import Ledger
from frugalrl.cost.machine import MachineFacts, _match
from frugalrl.cost.money import budget_per_hour
from frugalrl.types import UserError


def test_every_shipped_figure_is_dated_and_called_assumed(tables: Tables) -> None:
    entries = [*tables.machines.values(), *tables.prices.values(), tables.electricity]
    assert len(entries) >= 12
    for entry in entries:
        assert entry.how == "assumed"
        assert entry.date in ("2026-11-22", "2026-11-25")
        assert "set your own" in entry.source
    assert set(tables.prices) == set(tables.machines)


def test_the_owned_price_is_the_purchase_spread_over_its_hours(tables: Tables) -> None:
    assert tables.prices["laptop-4c"].eur_per_hour_owned == 1200 / (4 * 2000)
    assert tables.prices["cloud-2vcpu"].eur_per_hour_owned is None


def test_the_users_file_wins_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "[electricity]\neur_per_kwh = 0.5\nsource = 'my bill'\ndate = '2026-10-31'\n"
        "[price.cloud-2vcpu]\neur_per_hour_spot = 0\n"
        "[machine.mine]\ntitle='Mine'\ncores=6\nmemory_gb=12\ngpus=0\nwatts_per_busy_core=7\nidle_watts=9.5\n"
        "gpu_busy_watts=0\ngpu_idle_watts=0\ndate='2026-01-02'\nhow='measured'\nsource='wall meter'\n"
        "[price.mine]\npurchase_eur=0\nyears=1\nhours_per_year=100\nsource='paid long ago'\ndate='2020-01-01'\n"
        "how='assumed'\n"
    )
    tables = load_tables(path)
    assert (tables.electricity.eur_per_kwh, tables.electricity.source) == (0.5, "my bill")
    changed = tables.prices["cloud-2vcpu"]
    assert (changed.eur_per_hour_spot, changed.eur_per_hour_on_demand) == (0, 0.10)
    assert changed.source.startswith("eur_per_hour_spot set in mine.toml; the rest: round figure")
    assert changed.date == "undated"
    assert tables.machine("mine").how == "measured"
    assert tables.prices["mine"].eur_per_hour_owned == 0
    assert load_tables().prices["cloud-2vcpu"].eur_per_hour_spot == 0.04, "the package's table stays as it is"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[price.cloud-2vcpu]\neur_per_hour_ondemand = 1",
            "unknown key price.cloud-2vcpu.eur_per_hour_ondemand; did you mean 'eur_per_hour_on_demand'",
        ),
        ("[prices.generic]\nyears = 1", "unknown key 'prices'; did you mean 'price'"),
        ("[electricity]\neur_per_kwh = 'cheap'", "electricity.eur_per_kwh is 'cheap'; it must be a number"),
        ("[electricity]\neur_per_kwh = true", "electricity.eur_per_kwh is True; it must be a number"),
        ("[electricity]\neur_per_kwh = -0.1", "electricity.eur_per_kwh is -0.1; it must be 0 or more"),
        ("[electricity]\neur_per_kwh = nan", "electricity.eur_per_kwh is nan"),
        ("[machine.generic]\ncores = 2.5", "machine.generic.cores is 2.5; it must be a whole number"),
        ("[machine.generic]\ncores = 0", "machine.generic.cores is 0; it must be more than 0"),
        ("[machine.generic]\ngpu_names = 'H100'", "machine.generic.gpu_names is 'H100'; it must be a list"),
        ("[machine.generic]\nhow = 'guessed'", "machine.generic.how is 'guessed'; it must be one of measured"),
        ("[machine.generic]\ntitle = ''", "machine.generic.title is ''; it must be text"),
        ("[machine.generic]\ndate = '22.11.2026'", "machine.generic.date is '22.11.2026'; write a day"),
        ("[machine.mine]\ncores = 2", "machine.mine lacks title, memory_gb"),
        ("[price.my]\nyears = 2\nsource = 'x'\nhow = 'assumed'", "price.my names a machine that is in no table"),
        ("currency = 'USD'", "currency is 'USD'; this version knows only 'EUR'"),
        ("schema = 'frugalrl.tables/9'", "schema is 'frugalrl.tables/9'"),
        ("price = 3", "price is 3; it must be a table"),
        ("[price]\ngeneric = 3", "price.generic is 3; it must be a table"),
        ("electricity = 1", "electricity is 1; it must be a table"),
        ("[price.generic\n", "not valid TOML"),
    ],
)
def test_bad_files_are_one_clear_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_tables(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_no_file_a_folder_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such price file"):
        load_tables(tmp_path / "none.toml")
    with pytest.raises(UserError, match="cannot be read"):
        load_tables(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        load_tables(tmp_path / "x.toml")


def test_detection(tables: Tables) -> None:
    found = detect_machine(tables)
    assert found.facts.cores == usable_cores() >= 1
    assert found.facts.cpu
    assert found.facts.versions["frugalrl"]
    assert found.profile.name in tables.machines
    named = detect_machine(tables, "cloud-h100")
    assert (named.profile.name, named.chosen_because) == ("cloud-h100", "named by the user")
    with pytest.raises(UserError, match="unknown machine 'cloud-h10'; did you mean 'cloud-h100'"):
        detect_machine(tables, "cloud-h10")


@pytest.mark.parametrize(
    ("gpus", "battery", "virtual", "cores", "expected"),
    [
        (("NVIDIA H100 80GB HBM3",), False, True, 16, "cloud-h100"),
        (("NVIDIA GeForce RTX 4090",), True, False, 8, "workstation-1gpu"),
        ((), True, True, 8, "laptop-4c"),
        ((), False, True, 2, "cloud-2vcpu"),
        ((), False, True, 12, "cloud-16vcpu"),
        ((), False, False, 64, "generic"),
        ((), False, None, 4, "generic"),
    ],
)
def test_the_rule_that_chooses_a_profile(
    tables: Tables, gpus: tuple[str, ...], battery: bool, virtual: bool | None, cores: int, expected: str
) -> None:
    facts = MachineFacts(
        cpu="c", cores=cores, memory_bytes=None, gpus=gpus, virtual=virtual, battery=battery, os="o", python="3"
    )
    assert _match(facts, tables)[0].name == expected


def test_a_machine_with_more_gpus_than_its_profile_is_said(tables: Tables) -> None:
    """An hour of eight GPUs is not billed as an hour of one without a word."""
    one = MachineFacts(
        cpu="c", cores=16, memory_bytes=None, gpus=("NVIDIA H100",), virtual=True, battery=False, os="o", python="3"
    )
    eight = replace(one, gpus=("NVIDIA H100",) * 8)
    assert _match(one, tables) == (tables.machine("cloud-h100"), "the GPU is a NVIDIA H100")
    profile, why = _match(eight, tables)
    assert profile.name == "cloud-h100"
    assert "8 GPUs here, 1 in the profile" in why
    mine = replace(profile, name="mine", gpus=8)
    assert _match(eight, replace(tables, machines={**tables.machines, "mine": mine}))[0] == mine


def test_money_so_far(tables: Tables, machine: Callable[..., Machine]) -> None:
    ledger = Ledger(whole_process=False)
    session = {"cpu_s": 3600.0, "wall_s": 7200.0, "peak_rss_bytes": None, "peak_gpu_bytes": None, "cpu_j": None}
    empty = ledger.state_dict()
    ledger.load_state_dict({**empty, "sessions": {"0": {**session, "gpu_j": None}}})
    assert cost_so_far_eur(ledger, machine("cloud-2vcpu"), tables) == pytest.approx(2 * 0.10, rel=1e-3)
    watts = 8 + 2 * 6
    per_hour = 1200 / 8000 + watts / 1000 * 0.30
    assert eur_per_hour(machine("laptop-4c"), tables) == pytest.approx(per_hour)


def test_a_budget_without_a_price_is_refused(tables: Tables, machine: Callable[..., Machine]) -> None:
    with pytest.raises(UserError, match="has no price"):
        eur_per_hour(replace(machine(), price=None), tables)
    free = replace(tables.prices["cloud-2vcpu"], eur_per_hour_on_demand=0.0)
    with pytest.raises(UserError, match="costs 0 EUR, so a budget in euro would never be used up"):
        budget_per_hour(replace(machine(), price=free), tables)
    assert budget_per_hour(machine("cloud-2vcpu"), tables) == 0.10

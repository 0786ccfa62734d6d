"""Rules of the house that a test can hold: layers, exports, knobs, sizes, imports."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import frugalrl

ROOT = Path(frugalrl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LAYER = {
    "types": 0, "math": 1, "stats": 1, "cost": 1, "importance": 2, "nets": 2, "replay": 2, "envs": 2, "policies": 3,
    "algos": 4, "sampling": 4, "run": 5, "recipes": 6, "report": 6, "study": 7, "plan": 7, "cluster": 7,
    "integrations": 7, "watch": 7, "export": 7, "cli": 8,
}  # fmt: skip


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(line, part) of every import of this package, also inside functions and type-checking blocks."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("frugalrl"):
            names = [node.module] if node.module != "frugalrl" else [f"frugalrl.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.startswith("frugalrl.")]
        found += [(node.lineno, name.split(".")[1]) for name in names]
    return found


def broken_layers(mine: str, imports: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [(line, theirs) for line, theirs in imports if theirs != mine and LAYER[theirs] >= LAYER[mine]]


@pytest.mark.parametrize(
    "path", [p for p in FILES if p != ROOT / "__init__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_point_down(path: Path) -> None:
    assert part_of(path) in LAYER, f"{path} is in no layer of the design"
    assert broken_layers(part_of(path), imports_of(path)) == []


def test_the_layer_rule_is_not_blind() -> None:
    assert broken_layers("algos", [(1, "sampling"), (2, "math")]) == [(1, "sampling")]


def test_only_the_command_line_reads_argv_and_the_environment() -> None:
    for path in FILES:
        if part_of(path) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                seen = f"{node.value.id}.{node.attr}"
                assert seen not in ("sys.argv", "os.environ", "os.getenv"), f"{path}:{node.lineno} reads {seen}"


def modules_with_all() -> list[str]:
    names = [m.name for m in pkgutil.walk_packages([str(ROOT)], "frugalrl.") if not m.name.endswith("__main__")]
    return ["frugalrl", *(n for n in names if hasattr(importlib.import_module(n), "__all__"))]


@pytest.mark.parametrize("name", modules_with_all())
def test_all_is_what_can_be_seen(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


def test_public_names_agree_with_their_home_and_the_type_checker() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    checked = {a.name for n in ast.walk(block) if isinstance(n, ast.ImportFrom) for a in n.names}
    assert set(frugalrl.__all__) == set(frugalrl._HOME) == checked
    assert set(dir(frugalrl)) == {*frugalrl.__all__, "__doc__"}


def config_fields() -> list[tuple[str, str]]:
    from frugalrl.run.config import RunConfig

    found: list[tuple[str, str]] = []
    todo: list[Any] = [RunConfig]
    seen = set(todo)
    while todo:
        cls = todo.pop()
        for name, kind in typing.get_type_hints(cls).items():
            found.append((cls.__name__, name))
            # agents and networks are unions
            new = [k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k) and k not in seen]
            todo += new
            seen.update(new)
    return found


def names_read(skip: type | None = None) -> set[str]:
    """Attributes that the package reads outside of ``__post_init__``, where a knob is only checked."""
    read: set[str] = set()
    for path in FILES:
        tree = ast.parse(path.read_text())
        checks = {
            id(n)
            for f in ast.walk(tree)
            if isinstance(f, ast.FunctionDef) and f.name == "__post_init__"
            for n in ast.walk(f)
        }
        read |= {
            n.attr
            for n in ast.walk(tree)
            if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load) and id(n) not in checks
        }
    return read


READ = names_read()


@pytest.mark.parametrize(("owner", "name"), config_fields())
def test_no_config_field_is_dead(owner: str, name: str) -> None:
    assert name in READ, f"nobody reads {owner}.{name}"


def test_the_dead_knob_test_is_not_blind() -> None:
    assert {"RunConfig", "SamplerConfig", "PPOConfig", "R2D2Config", "GRPOConfig", "TokenNetConfig", "Schedule"} <= {
        owner for owner, _ in config_fields()
    }
    assert "a_knob_that_nobody_reads" not in READ


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400, "no file over 400 lines"
    if part_of(path) == "recipes":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 60, f"{path}:{node.lineno} {node.name} has {lines} lines; the budget is 60"


def test_dqn_can_be_followed_in_seven_files_and_1500_lines() -> None:
    way = [
        "envs/rows.py", "sampling/inline.py", "replay/replay.py", "run/loop.py", "algos/dqn.py", "math/td.py",
        "nets/q_network.py",
    ]  # fmt: skip
    assert sum(len((ROOT / f).read_text().splitlines()) for f in way) <= 1_500


@pytest.mark.parametrize(
    "code", ["import frugalrl; dir(frugalrl)", "import frugalrl; frugalrl.counteractive; frugalrl.UserError"]
)
def test_torch_is_not_imported_before_it_is_used(code: str) -> None:
    check = f"{code}; import sys; assert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_traceback_of_a_machine_in_the_sources() -> None:
    for path in FILES:
        text = path.read_text()
        for word in ("/root/", "/home/", "/work/", "pypi.org", "files.pythonhosted"):
            assert word not in text, f"{path} mentions {word}"

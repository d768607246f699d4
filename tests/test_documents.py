"""What the documents say of the tests is so."""

import ast
import os
import re
from pathlib import Path

import pytest

from parley.buses.memory import MemoryBus
from parley.config import Settings, shown
from parley.metrics import registry_of
from parley.node import Node
from parley.stores.memory import MemoryStore
from parley.web import health

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"\btests/[\w/.-]*[\w/](?:::\w+)?")


def named_in(document: str) -> list[str]:
    """The tests, and the files and folders of tests, that a document names."""
    return sorted(set(NAMED.findall((ROOT / document).read_text())))


def is_there(named: str) -> bool:
    file, _, name = named.partition("::")
    path = ROOT / file
    if not name:
        return path.exists()
    if not path.is_file():
        return False
    made = ast.parse(path.read_text()).body
    return any(
        isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == name for each in made
    )


@pytest.mark.parametrize("named", named_in("docs/guarantees.md"))
def test_every_test_that_the_guarantees_name_exists(named: str) -> None:
    assert is_there(named)


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("tests/test_documents.py::test_what_counts_as_there", True),
        ("tests/test_documents.py", True),
        ("tests/faults", True),
        ("tests/test_documents.py::test_nothing", False),
        ("tests/test_nothing.py::test_what_counts_as_there", False),
        ("tests/nothing", False),
    ],
)
def test_what_counts_as_there(named: str, there: bool) -> None:
    assert is_there(named) is there
    assert NAMED.findall(f"seen by `{named}`.") == [named]


def test_the_example_of_settings_names_each_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [each for each in os.environ if each.startswith("PARLEY_")]:
        monkeypatch.delenv(variable)
    lines = (ROOT / ".env.example").read_text().splitlines()
    told = dict(line[1:].split("=", 1) for line in lines if line.startswith("#PARLEY_"))
    assert all(line.startswith("#") or not line for line in lines), "a copy must change nothing"
    in_force = shown(Settings(_env_file=None))
    as_numbers = {name: value.removesuffix(".0") for name, value in in_force.items()}
    assert {name: value.lower() for name, value in told.items()} == {
        name: value.lower() for name, value in as_numbers.items()
    }


METRIC = re.compile(r"\bparley_\w+")
METRIC_ROW = re.compile(r"^\| `(parley_\w+)(?:\{([\w,]+)\})?` \| (.*) \|$", re.MULTILINE)


async def test_the_operator_is_told_of_each_metric_with_its_labels_and_of_no_other() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    rows = METRIC_ROW.findall(text)
    node = Node(Settings(_env_file=None), MemoryStore(), MemoryBus())
    await node.start()
    samples = [sample for family in registry_of(node).collect() for sample in family.samples]
    await node.stop()
    ours = {(each.name, frozenset(each.labels)) for each in samples if each.name.startswith("parley_")}
    assert {(name, frozenset(labels.split(",")) - {""}) for name, labels, _ in rows} == ours
    assert len(rows) == len(ours)
    assert set(METRIC.findall(text)) == {name for name, _ in ours}
    others = {each.name.partition("_")[0] for each in samples} - {"parley"}
    assert all(f"`{each}_…`" in text for each in others)
    told = {name: re.findall(r"`(\w+)`", what) for name, _, what in rows}
    for label in ("cause", "outcome"):
        for name in {each.name for each in samples if label in each.labels}:
            assert told[name] == [each.labels[label] for each in samples if each.name == name]


def test_the_operator_is_told_how_long_the_store_may_take() -> None:
    assert f"longer than {health.STORE_SECONDS:g} seconds" in (ROOT / "docs/operations.md").read_text()

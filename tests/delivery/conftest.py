"""Brokers that the cells share, and the table that is printed when they have been run."""

from collections.abc import Iterator

import pytest

from tests.delivery.brokers import Brokers
from tests.delivery.table import Row, legend, table

ROWS: list[Row] = []


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """Where cells put down what they came to."""
    return ROWS


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    made = Brokers()
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROWS:
        terminalreporter.section("the delivery matrix")
        terminalreporter.write_line(f"{table(ROWS)}\n\n{legend()}")

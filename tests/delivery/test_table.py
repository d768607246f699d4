"""The table of the matrix, as it is printed and as it stands in the guarantees."""

from itertools import product
from pathlib import Path

from tests.delivery.table import BUSES, FAULTS, REFUSED, SHOWN, STORES, Row, legend, table
from tests.delivery.test_matrix import CELLS

GUARANTEES = Path(__file__).parent.parent.parent / "docs" / "guarantees.md"


def test_every_cell_of_the_matrix_is_run_or_explained() -> None:
    explained = [(store, bus) for store in REFUSED for bus in BUSES if bus != "memory"]
    assert sorted(CELLS + explained) == sorted(product(STORES, BUSES))


def test_the_table_has_a_line_for_each_cell_that_was_run_or_cannot_be() -> None:
    printed = table([Row("redis", "kafka", "3", "F", result="passed")]).splitlines()
    assert sum("not possible" in line for line in printed) == 8
    assert "| Redis | Kafka | 3 | F | 0 | 0 | 0 | – | – | – | – | passed |" in printed
    assert {line.count("|") for line in printed} == {13}


def test_the_guarantees_show_every_cell_as_passed_or_explained() -> None:
    document = GUARANTEES.read_text()
    assert legend() in document
    lines = document.partition("the delivery matrix: begin")[2].partition("the delivery matrix: end")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines.splitlines()]
    cells = {(row[0], row[1]): row for row in rows if len(row) > 2}
    for store, bus in CELLS:
        row = cells[SHOWN[store], SHOWN[bus]]
        assert set(row[3].split()) <= set(FAULTS)
        assert row[-1] == "passed"

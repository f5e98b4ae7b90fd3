"""Tables of the documents, and the tests that they name."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"`([^`]+::[^`]+)`")


def rows_of(document: str, heading: str) -> list[list[str]]:
    """The cells of the tables under this heading."""
    part = re.split(r"^## ", document.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named_in(cell: str) -> list[str]:
    return _NAMED.findall(cell)


def check_there(named: str) -> None:
    """`named`: as `unit/test_x.py::test_y`."""
    path, _, name = named.partition("::")
    functions = {
        node.name
        for node in ast.walk(ast.parse((ROOT / "tests" / path).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name.startswith("test_")
    assert name in functions

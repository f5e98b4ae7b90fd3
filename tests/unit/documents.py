"""Tables of the documents, and the tests that they name."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"`([^`]+::[^`]+)`")


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def tables_of(document: str) -> list[list[str]]:
    """The cells of all rows of all tables, without the tables' heads."""
    rows = list[list[str]]()
    for line in document.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not line.startswith("|"):
            continue
        if all(set(cell) == {"-"} for cell in cells):
            rows.pop()
        else:
            rows.append(cells)
    return rows


def rows_of(document: str, heading: str) -> list[list[str]]:
    """Those under this heading."""
    return tables_of(re.split(r"^## ", document.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0])


def fields_of(shape: str) -> set[str]:
    """Those that docs/wire.md names of an object."""
    found = re.search(rf"^- \*\*{shape}\*\* `\{{(.*?)\}}`", read("docs/wire.md"), re.MULTILINE | re.DOTALL)
    assert found is not None
    flat = re.sub(r"\{[^}]*\}", "", found[1])
    return {re.split(r"[|:]", field)[0].strip() for field in flat.split(",")}


def named_in(cell: str) -> list[str]:
    return _NAMED.findall(cell)


def check_there(named: str) -> None:
    """`named`: as `unit/test_x.py::test_y`, or as `chatcore_testing/contracts/x.py::test_y`."""
    path, _, name = named.partition("::")
    root = ROOT / ("src/entrypoints" if path.startswith("chatcore_testing/") else "tests")
    functions = {
        node.name
        for node in ast.walk(ast.parse((root / path).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name.startswith("test_")
    assert name in functions

"""Walls that import-linter cannot see: what the core imports is in Python itself, and what is shipped is typed."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
PACKAGES = [SOURCE / "chatcore", *SOURCE.glob("adapters/*/"), *SOURCE.glob("entrypoints/*/")]


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{file}:{node.lineno}: relative imports hide where a name comes from"
            yield node.module


@pytest.mark.parametrize("package", ["chatcore", "adapters/chatcore_memory", "adapters/chatcore_demo"])
def test_only_the_standard_library_is_imported(package: str) -> None:
    files = list((SOURCE / package).rglob("*.py"))
    assert files
    allowed = sys.stdlib_module_names | {"chatcore", Path(package).name}
    foreign = {(file.name, name) for file in files for name in imported(file) if name.split(".")[0] not in allowed}
    assert not foreign


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_is_named_for_chatcore_and_typed(package: Path) -> None:
    assert package.name.startswith("chatcore")
    assert (package / "__init__.py").is_file()
    assert (package / "py.typed").is_file()


@pytest.mark.parametrize("root", ["adapters", "entrypoints"])
def test_a_source_root_is_no_package(root: str) -> None:
    assert not (SOURCE / root / "__init__.py").exists()


def test_no_statement_is_put_together_from_text() -> None:
    """What the adapter says to the database is SQLAlchemy's, which sends values apart from the statement; all text is
    in the sources as it is said. statements.py says COMMIT and the like, schema.py what it has as constants.
    """
    raw = list[str]()
    for file in sorted((SOURCE / "adapters/chatcore_sql").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            match node:
                case ast.ImportFrom(module=str(module), names=names) if module.startswith("sqlalchemy"):
                    assert not {name.name for name in names} & {"text", "DDL"}, file
                case ast.Import(names=names):
                    assert "sqlalchemy" not in {name.name for name in names}, file  # or it could be sqlalchemy.text
                case ast.Attribute(attr="exec_driver_sql" | "op" as name):
                    raw.append(f"{file.name} {name}")
                case ast.Call(func=ast.Name(id="literal_column"), args=[written, *_]):
                    assert isinstance(written, ast.Constant), file
                case _:
                    pass
    assert sorted(set(raw)) == [f"{name}.py exec_driver_sql" for name in ("joining", "schema", "statements")]


SQL = SOURCE / "adapters/chatcore_sql"
DATABASES = {"sqlite", "mysql", "mariadb", "postgresql"}


def test_no_module_asks_which_database_it_is() -> None:
    """What differs is in the databases' own modules; migrations are as they were."""
    asked = [
        f"{file.name}:{node.lineno}"
        for file in sorted(SQL.glob("*.py"))
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Compare)
        and DATABASES & {part.value for part in (node.left, *node.comparators) if isinstance(part, ast.Constant)}
    ]
    assert asked == []


def test_every_revision_is_named_for_chatcore_and_knows_the_prefix() -> None:
    scripts = sorted((SQL / "migrations/versions").glob("*.py"))
    assert len(scripts) > 10
    for script in scripts:
        assert 'revision = "chatcore_' in script.read_text("utf-8"), script
        assert "alembic" not in imported(script), script


def test_what_is_private_in_a_library_is_used_in_one_module() -> None:
    used = [
        f"{file.name}:{node.lineno} {ast.unparse(node)}"
        for file in sorted(SQL.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if ast.unparse(node.value) not in ("self", "cls") and file.name != "_internals.py"
    ]
    assert used == []


def loops_of(file: Path) -> Iterator[tuple[ast.AsyncFunctionDef, ast.AsyncFor]]:
    """Each `async for`, and the function that it stands in."""
    for function in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(function, ast.AsyncFunctionDef):
            yield from ((function, node) for node in ast.walk(function) if isinstance(node, ast.AsyncFor))


def closed_in(function: ast.AsyncFunctionDef) -> set[str]:
    """What `aclosing` closes there, by its name and by the one that it gets."""
    closed = set[str]()
    for node in ast.walk(function):
        match node:
            case ast.withitem(context_expr=ast.Call(func=ast.Name(id="aclosing"), args=[given]), optional_vars=name):
                closed |= {ast.unparse(part) for part in (given, name) if part is not None}
            case _:
                pass
    return closed


def test_what_is_read_is_closed() -> None:
    """Not left to the collector: by the one who reads it, or who has called a function with it that is no generator
    itself, and so is over before its caller goes on."""
    loops = [(file, *found) for file in sorted(SOURCE.rglob("*.py")) for found in loops_of(file)]
    assert len(loops) > 20
    lent = {"_read_all", "_tell"}  # their callers close it
    left = [
        f"{file.name}:{loop.lineno} {ast.unparse(loop.iter)}"
        for file, function, loop in loops
        if ast.unparse(loop.iter) not in closed_in(function) and function.name not in lent
    ]
    assert left == []

"""In whose name something is changed: no use case forgets to ask, and none goes by what was true when it was called."""

import ast
from collections.abc import Iterator
from pathlib import Path

CORE = Path(__file__).parents[2] / "src" / "chatcore"

WITHOUT = {
    "accounts.MakeAccount._store": "anybody makes an account",
    "accounts.Register._store_signed_in": "anybody makes an account",
    "administration.CreateAdmin.promote": "the operator, at the server",
    "encryption_keys.RotateKeys._replace": "the operator, at the server",
    "sessions.Authenticate._touch": "a use is noted, nothing of the user's is changed",
    "sessions.Refresh._refresh": "a refresh token is the proof, and is looked at in the same transaction",
    "sessions.SignIn._open": "the password is the proof, and its hash is held in the same transaction",
    "user_import.ImportUsers._store_once": "the operator, at the server",
}
"""The writing units of the use cases that rest on no authority, and why."""


def units_without() -> Iterator[str]:
    """Where a use case opens a writing unit of work itself."""
    for file in sorted((CORE / "use_cases").glob("*.py")):
        for kind in ast.walk(ast.parse(file.read_bytes())):
            for method in kind.body if isinstance(kind, ast.ClassDef) else ():
                for call in ast.walk(method):
                    if isinstance(call, ast.Call) and opens(call.func) and not reads(call):
                        assert isinstance(kind, ast.ClassDef)
                        yield f"{file.stem}.{kind.name}.{getattr(method, 'name', '')}"


def opens(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and called.attr.strip("_") == "unit_of_work"


def reads(call: ast.Call) -> bool:
    return any(each.arg == "read_only" and ast.unparse(each.value) == "True" for each in call.keywords)


def test_no_use_case_changes_anything_without_an_authority_but_these() -> None:
    assert sorted(units_without()) == sorted(WITHOUT)


def test_a_unit_of_work_is_opened_where_it_is_seen() -> None:
    """And not by another name, which the test before would miss."""
    for file in sorted((CORE / "use_cases").glob("*.py")):
        tree = ast.parse(file.read_bytes())
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        given = {id(value) for node in ast.walk(tree) if isinstance(node, ast.Call) for value in values_of(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "unit_of_work":
                assert id(node) in called | given, f"{file.name}:{node.lineno}"


def values_of(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]

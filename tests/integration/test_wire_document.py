"""docs/wire.md, docs/systems.md and docs/protocols.md name every route, error, event and close code, and no other."""

import json
import re
from functools import cache
from typing import Any

import pytest

from chatcore_app import Settings
from chatcore_http import open_sockets, ws_protocol
from chatcore_http.app import api_routers
from chatcore_http.openapi import describe
from integration.routes import ROUTES, Route
from unit.documents import fields_of, read, rows_of, tables_of

pytestmark = pytest.mark.once

WIRE = read("docs/wire.md")
OUTSIDE_ROUTES = {"malformed_request": "400", "https_required": "403", "method_not_allowed": "405", "internal": "500"}
"""Of what is no operation of the API document."""


@cache
def api_document() -> Any:
    return describe(Settings(), api_routers(Settings()))


def named_routes() -> list[Route]:
    pages = (WIRE, read("docs/systems.md"), read("docs/protocols.md"))
    cells = [row[0] for page in pages for row in tables_of(page)]
    return [(found[1], found[2]) for cell in cells if (found := re.fullmatch(r"`([A-Z]+) (/\S*)`", cell))]


def codes_and_statuses() -> dict[str, str]:
    return {row[0].strip("`"): row[1] for row in rows_of(WIRE, "Errors")}


def test_each_route_is_named_once() -> None:
    assert sorted(named_routes()) == ROUTES


def test_each_error_is_named_with_its_status() -> None:
    declared = {
        code: status
        for operations in api_document()["paths"].values()
        for operation in operations.values()
        for status, response in operation["responses"].items()
        for shape in response.get("content", {}).get("application/problem+json", {}).get("schema", {}).get("allOf", ())
        for code in shape.get("properties", {}).get("code", {}).get("enum", ())
    }
    assert codes_and_statuses() == {**declared, **OUTSIDE_ROUTES}


def test_each_event_is_named() -> None:
    events = [name for row in rows_of(WIRE, "The event stream") for name in re.findall(r"`([a-z.]+)`", row[0])]
    assert sorted(events) == sorted(api_document()["components"]["schemas"]["Event"]["discriminator"]["mapping"])


def test_each_close_code_is_named() -> None:
    codes = {
        value
        for name, value in vars(open_sockets).items()
        if name.isupper() and isinstance(value, int) and value > 1000
    }
    codes |= {ws_protocol.POLICY_VIOLATION, ws_protocol.TOO_LARGE}
    assert {int(row[0]) for row in rows_of(WIRE, "The WebSocket")} == codes


@pytest.mark.parametrize("shape", ["User", "Tokens", "Session", "ModelConfig", "Conversation", "Message"])
def test_each_field_of_an_object_is_named(shape: str) -> None:
    assert fields_of(shape) == set(api_document()["components"]["schemas"][shape]["properties"])


def test_the_api_document_is_in_plain_words() -> None:
    """Nouns and verbs instead of these (docs/contributing.md)."""
    said = json.dumps(api_document(), ensure_ascii=False)
    assert re.findall(r"\b(?:[Ww]hoever|one's|somebody|nobody|(?:is|are) told)\b.{0,40}", said) == []

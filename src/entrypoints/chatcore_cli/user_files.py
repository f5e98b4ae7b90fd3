"""Users as other systems write them down, row by row: CSV as spreadsheets write it too, JSON Lines, a JSON list."""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from chatcore import Profile
from chatcore.bounds import PROFILE
from chatcore.entities import DEFAULT_ROLE
from chatcore.histories.json_items import ANYTHING, JsonItems
from chatcore.histories.json_values import NotJson
from chatcore.ports import NewUser
from chatcore.use_cases.user_import import UserRow
from chatcore_app import SettingsError

LONGEST_LINE = 64 * 1024
"""Characters of a row of JSON; a field of CSV has at most as many."""

_REQUIRED = {"username", "password_hash"}
_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r"sep=(.)")
_PROFILE = tuple(PROFILE)
_YES, _NO = ("1", "true", "t", "yes", "y"), ("0", "false", "f", "no", "n")


class UserFile:
    """A context manager around the open file. `position` of its `size` bytes have been read, more or less."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("rb")
        encoding = _encoding(self._raw.read(4))
        self._raw.seek(0)
        # What is no UTF-8 becomes text that breaks the rules of its row.
        errors = "replace" if encoding.startswith("utf-16") else "surrogateescape"
        self._text = io.TextIOWrapper(self._raw, encoding, errors=errors, newline="")
        self.size: int = path.stat().st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._text.close()

    @property
    def position(self) -> int:
        return self._raw.tell()

    def rows(self) -> Iterator[UserRow]:
        """Raise `SettingsError` if the file has no columns that could be users."""
        first = self._text.readline(LONGEST_LINE)
        if first.lstrip().startswith("{"):
            return self._json_rows(first)
        if first.lstrip().startswith("["):
            return self._listed_rows(first)
        return self._csv_rows(first)

    def _listed_rows(self, first: str) -> Iterator[UserRow]:
        """Of a list in JSON, each with its number in the list."""
        items, number, text = JsonItems(ANYTHING, longest=LONGEST_LINE), 0, first
        try:
            while text:
                for item in items.feed(text.encode(errors="replace")):
                    number += 1
                    yield UserRow(number, item.why or _object(item.value))
                text = self._text.read(LONGEST_LINE)
            items.end()
        except NotJson:
            yield UserRow(number + 1, "is no JSON, and nothing after it is read")

    def _json_rows(self, first: str) -> Iterator[UserRow]:
        line, number = first, 1
        while line:
            if line.strip():
                yield UserRow(number, _json_user(line))
            while line and not line.endswith("\n"):  # the rest of one that is too long
                line = self._text.readline(LONGEST_LINE)
            line, number = self._text.readline(LONGEST_LINE), number + 1

    def _csv_rows(self, first: str) -> Iterator[UserRow]:
        before = 1
        if (told := _SEPARATOR.fullmatch(first.strip())) is not None:  # a spreadsheet's own first line
            first, before = self._text.readline(LONGEST_LINE), 2
        delimiter, columns = _columns(first, told[1] if told else None)
        csv.field_size_limit(LONGEST_LINE)
        reader = csv.reader(self._text, delimiter=delimiter, skipinitialspace=True)
        while True:
            line = reader.line_num + before + 1
            try:
                values = next(reader, None)
            except csv.Error as error:
                yield UserRow(line, f"is no CSV: {error}")
                continue
            if values is None:
                return
            if values:
                yield UserRow(line, _csv_user(columns, values))


def _encoding(start: bytes) -> str:
    """By its byte order mark; UTF-16 also without one, since a column's name begins with a letter."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(start) > 1 and start[0] and not start[1]:
        return "utf-16-le"
    return "utf-8-sig"


def _columns(header: str, told: str | None) -> tuple[str, list[str]]:
    """What separates the columns, and their names."""
    missing = set[str]()
    for delimiter in _DELIMITERS if told is None else told:
        values = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), list[str]())
        columns = [name.strip().lower() for name in values]
        lacking = _REQUIRED - set(columns)
        if not lacking:
            return delimiter, columns
        missing = lacking if not missing or len(lacking) < len(missing) else missing
    raise SettingsError(f"the file's first line names no column {' and no column '.join(sorted(missing))}")


def _csv_user(columns: list[str], values: list[str]) -> NewUser | str:
    if len(values) > len(columns):
        return f"has {len(values)} values for {len(columns)} columns"
    stripped = ((column, value.strip()) for column, value in zip(columns, values, strict=False))
    return _user({column: value for column, value in stripped if value})


def _json_user(line: str) -> NewUser | str:
    if len(line) == LONGEST_LINE and not line.endswith("\n"):
        return f"is longer than {LONGEST_LINE} characters"
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        return "is no JSON"
    return _object(values)


def _object(values: Any) -> NewUser | str:
    if not isinstance(values, dict):
        return "is no JSON object"
    return _user(cast("dict[str, Any]", values))


def _user(values: Mapping[str, Any]) -> NewUser | str:
    """Or what is wrong with it; the value is not repeated."""
    texts = ("username", "password_hash", "email", *_PROFILE)
    if wrong := [name for name in texts if not isinstance(values.get(name), str | None)]:
        return f"{wrong[0]}: must be text"
    if missing := [name for name in ("username", "password_hash") if not values.get(name)]:
        return f"{missing[0]}: is required"
    try:
        return NewUser(
            username=values["username"],
            email=values.get("email") or None,
            password_hash=values["password_hash"],
            roles=_roles(values.get("roles")),
            is_active=_is_active(values.get("is_active")),
            profile=Profile(**{name: values.get(name) for name in _PROFILE}),
            created_at=_time(values.get("created_at")),
        )
    except ValueError as error:
        return str(error)


def _roles(value: Any) -> frozenset[str]:
    """Apart by spaces, commas or semicolons, or a list; none: the usual one."""
    roles: Any = value.replace(",", " ").replace(";", " ").split() if isinstance(value, str) else value or []
    try:
        return frozenset(msgspec.convert(roles, list[str]) or [DEFAULT_ROLE])
    except msgspec.ValidationError:
        raise ValueError("roles: must be names") from None


def _is_active(value: object) -> bool:
    if value is None or str(value).strip().lower() in _YES:
        return True
    if str(value).strip().lower() in _NO:
        return False
    raise ValueError("is_active: must be true or false")


def _time(value: object) -> datetime | None:
    """ISO 8601; without an offset it is UTC."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError("created_at: must be a time such as 2025-12-06T09:30:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)

"""Which format a history is in, and its conversations as the lines that `ImportConversations` reads."""

from asyncio import sleep, to_thread
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from time import perf_counter
from typing import IO, Any, TypeAlias

from chatcore.errors import FieldError, ValidationFailed
from chatcore.histories import chatgpt, deepseek, librechat, open_webui, own
from chatcore.histories.archive import Archive, Unpackable, spooled
from chatcore.histories.json_items import Fields, Item, JsonItems, Wanted
from chatcore.histories.json_values import NotJson
from chatcore.histories.notes import members, text_in
from chatcore.histories.trees import Tree, lines_of
from chatcore.use_cases.own_data import EndOfExport, Line, RefusedConversation

_PIECE = 8 * 1024
_BREATH = 0.005  # seconds for which nothing else is done
_LOOKED_AT = 1024 * 1024
"""Bytes within which it has to be seen what format it is."""
_BOM, _ZIP = b"\xef\xbb\xbf", b"PK\x03\x04"

Body: TypeAlias = AsyncGenerator[bytes, None]
Lines: TypeAlias = AsyncGenerator[Line, None]


class Format(StrEnum):
    """The format of an import: chatcore's export, or another product's. `AUTO`: recognise it."""

    AUTO = "auto"
    CHATCORE = "chatcore"
    CHATGPT = "chatgpt"
    OPENWEBUI = "openwebui"
    LIBRECHAT = "librechat"
    DEEPSEEK = "deepseek"


@dataclass(frozen=True)
class _Product:
    """`signs`: the members by which its conversations are known."""

    wanted: Wanted
    tree_of: Callable[[Mapping[str, Any]], Tree | str]
    signs: tuple[frozenset[str], ...]


_PRODUCTS = {
    Format.DEEPSEEK: _Product(deepseek.WANTED, deepseek.tree_of, (frozenset({"mapping", "inserted_at"}),)),
    Format.CHATGPT: _Product(chatgpt.WANTED, chatgpt.tree_of, (frozenset({"mapping"}),)),
    Format.OPENWEBUI: _Product(open_webui.WANTED, open_webui.tree_of, (frozenset({"chat"}), frozenset({"history"}))),
    Format.LIBRECHAT: _Product(
        librechat.WANTED,
        librechat.tree_of,
        (frozenset({"messagesTree"}), frozenset({"conversationId", "messages"})),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Histories:
    """Reads a history of any format."""

    now: Callable[[], datetime]
    longest: int | None = None
    """Bytes that are unpacked of one archive."""

    async def lines(self, body: Body, wanted: Format = Format.AUTO) -> Lines:
        """Raise `ValidationFailed` if the body is in none of the formats, or is not JSON from the start."""
        async with _begun(body, wanted) as (start, whole):
            if start.is_archive:
                with await spooled(whole) as file:
                    async with aclosing(self._archived(file, wanted)) as lines:
                        async for line in lines:
                            yield line
            else:
                async with aclosing(self._read(whole, start.format())) as lines:
                    async for line in lines:
                        yield line

    async def file(self, file: IO[bytes], wanted: Format = Format.AUTO) -> Lines:
        """As `lines`, from the beginning of a file; an archive is read where it lies."""
        is_archive = (await to_thread(file.read, len(_ZIP))) == _ZIP
        file.seek(0)
        lines = self._archived(file, wanted) if is_archive else self.lines(_read_in_pieces(file), wanted)
        async with aclosing(lines):
            async for line in lines:
                yield line

    async def _archived(self, file: IO[bytes], wanted: Format) -> Lines:
        archive = Archive(file, longest=self.longest)
        for history in archive.histories():
            try:
                async with (
                    _begun(archive.read(history), wanted) as (start, whole),
                    aclosing(self._read(whole, start.format())) as lines,
                ):
                    async for line in lines:
                        yield line
            except (Unpackable, ValidationFailed) as error:
                yield Line(None, EndOfExport())
                yield Line(None, RefusedConversation(history.filename, str(error)))
        yield Line(None, EndOfExport())

    async def _read(self, body: Body, format_: Format) -> Lines:
        is_own = format_ is Format.CHATCORE
        async with aclosing(own.read(body) if is_own else self._foreign(body, _PRODUCTS[format_])) as lines:
            async for line in lines:
                yield line
        if not is_own:
            yield Line(None, EndOfExport())

    async def _foreign(self, body: Body, product: _Product) -> Lines:
        items, breath, read, number = JsonItems(product.wanted), _Breath(), 0, 0
        try:
            async with aclosing(body):
                async for piece in body:
                    await breath.take()
                    read += len(piece)
                    for item in items.feed(piece):
                        number += 1
                        for line in self._lines_of(item, product, number):
                            yield line
                            await breath.take()
            items.end()
        except NotJson:
            why = f"The file is no JSON, or cut off, at about byte {read}. What is complete before that is imported."
            yield Line(None, RefusedConversation("", why))

    def _lines_of(self, item: Item, product: _Product, number: int) -> Iterator[Line]:
        value = members(item.value)
        tree = item.why or product.tree_of(value)
        if isinstance(tree, str):
            yield Line(None, RefusedConversation(text_in(value.get("title")), tree))
        else:
            yield from lines_of(tree, number=number, now=self.now())


class _Start:
    """The beginning of a history, as far as it takes to know what it is."""

    def __init__(self, wanted: Format) -> None:
        self.pieces = list[bytes]()
        self._wanted = wanted
        self._length = 0
        self._items = JsonItems(Fields({}))

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self._length += len(piece)
        with suppress(NotJson):  # of our own export, every line is JSON by itself, or should be
            for line in piece.splitlines(keepends=True):
                deque(self._items.feed(line), maxlen=0)

    @property
    def is_archive(self) -> bool:
        return b"".join(self.pieces[:4]).startswith(_ZIP)

    @property
    def is_known(self) -> bool:
        return self._length >= len(_ZIP) and (
            self.is_archive or self._wanted is not Format.AUTO or self._found() is not None or self._length > _LOOKED_AT
        )

    def format(self) -> Format:
        """Raise `ValidationFailed`."""
        if self._wanted is not Format.AUTO:
            return self._wanted
        if (found := self._found()) is not None:
            return found
        if b"".join(self.pieces).strip() == b"[]":
            return Format.CHATGPT
        known = ", ".join(format_ for format_ in Format if format_ is not Format.AUTO)
        raise ValidationFailed([FieldError("body", f"must be a history in one of these formats: {known}")])

    def _found(self) -> Format | None:
        if "kind" in self._items.keys:
            return Format.CHATCORE
        for format_, product in _PRODUCTS.items():
            if any(signs <= self._items.keys for signs in product.signs):
                return format_
        return None


class _Breath:
    """Lets others run, if it has been too long."""

    def __init__(self) -> None:
        self._last = perf_counter()

    async def take(self) -> None:
        if perf_counter() - self._last > _BREATH:
            await sleep(0)
            self._last = perf_counter()


@asynccontextmanager
async def _begun(body: Body, wanted: Format) -> AsyncGenerator[tuple[_Start, Body], None]:
    """What it begins with, and all of it."""
    start, breath = _Start(wanted), _Breath()
    async with aclosing(_sliced(_without_bom(body))) as rest:
        async for piece in rest:
            start.add(piece)
            await breath.take()
            if start.is_known:
                break
        async with aclosing(_whole(start.pieces, rest)) as whole:
            yield start, whole


async def _whole(pieces: list[bytes], rest: Body) -> Body:
    while pieces:
        yield pieces.pop(0)
    async with aclosing(rest):
        async for piece in rest:
            yield piece


async def _read_in_pieces(file: IO[bytes]) -> Body:
    while piece := await to_thread(file.read, 8 * _PIECE):
        yield piece


async def _without_bom(body: Body) -> Body:
    start = b""
    async with aclosing(body):
        async for piece in body:
            start += piece
            if len(start) >= len(_BOM):
                break
        yield start.removeprefix(_BOM)
        async for piece in body:
            yield piece


async def _sliced(body: Body) -> Body:
    async with aclosing(body):
        async for piece in body:
            for at in range(0, len(piece), _PIECE):
                yield piece[at : at + _PIECE]

"""Which models an endpoint says that it has."""

import json
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from chatcore.entities import storable
from chatcore.errors import ModelProtocolError

_AT_MOST = 1000
_NAME_LENGTH = 200
_NONE = "The model endpoint did not answer with a list of models."
_MAX_ODD = 64 * 1024  # bytes
_MAX_OBJECTS = 20_000  # of all kinds: each that is made takes the event loop 100 ns


class _Model(msgspec.Struct, gc=False):
    """`model` and `name` are other servers' words for its `id`."""

    id: str | None = None
    model: str | None = None
    name: str | None = None


class _Models(msgspec.Struct):
    data: Sequence[_Model | str] | None = None
    models: Sequence[_Model | str] | None = None


_Listing: TypeAlias = _Models | Sequence[_Model | str]


def models_in(body: bytes) -> Sequence[str]:
    """The names in a listing of models, sorted. Raise `ModelProtocolError` if it is none."""
    try:
        listing = _decoded(body)
    except (ValueError, RecursionError):
        raise ModelProtocolError(_NONE) from None
    found = (listing.models if listing.data is None else listing.data) if isinstance(listing, _Models) else listing
    if found is None:
        raise ModelProtocolError(_NONE)
    names = (model if isinstance(model, str) else model.id or model.model or model.name for model in found[:_AT_MOST])
    return sorted({storable(name[:_NAME_LENGTH]) for name in names if name})


def _decoded(body: bytes) -> _Listing:
    """msgspec refuses what is not UTF-8 and half characters; the standard library takes ten times as long."""
    if body.count(b"{") > _MAX_OBJECTS:
        raise ValueError
    try:
        listing: _Listing = _decode(body)
    except ValueError:
        if len(body) > _MAX_ODD:
            raise
        listing = msgspec.convert(json.loads(body.decode(errors="replace")), _Listing)
    return listing


_decode = msgspec.json.Decoder[_Listing](_Listing).decode

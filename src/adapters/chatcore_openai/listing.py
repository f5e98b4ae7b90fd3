"""Which models an endpoint says that it has."""

import json
from collections.abc import Sequence

import msgspec

from chatcore.entities import storable
from chatcore.errors import ModelProtocolError

_AT_MOST = 1000
_NAME_LENGTH = 200
_MAX_ODD = 64 * 1024  # bytes


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: Sequence[_Model]


def models_in(body: bytes) -> Sequence[str]:
    """The names in a listing of models, sorted. Raises `ModelProtocolError` if it is none."""
    try:
        listing = _decoded(body)
    except (ValueError, RecursionError):
        raise ModelProtocolError("The model endpoint did not answer with a list of models.") from None
    return sorted({storable(model.id[:_NAME_LENGTH]) for model in listing.data[:_AT_MOST]})


def _decoded(body: bytes) -> _Models:
    """msgspec refuses what is not UTF-8 and half characters; the standard library takes ten times as long."""
    try:
        return msgspec.json.decode(body, type=_Models)
    except ValueError:
        if len(body) > _MAX_ODD:
            raise
        return msgspec.convert(json.loads(body.decode(errors="replace")), _Models)

"""How protocols without chatcore's statuses say that a reply failed."""

from chatcore import Message, Status
from chatcore.entities import INTERNAL, Failure

_INTERRUPTED = Failure(
    code="interrupted",
    detail="The server that wrote this reply ended before the reply did. The text up to there is kept.",
)


def failure_of(reply: Message) -> Failure | None:
    """Return why a reply failed or was interrupted; None for any other."""
    match reply.status:
        case Status.INTERRUPTED:
            return _INTERRUPTED
        case Status.FAILED:
            return reply.error or INTERNAL
        case _:
            return None

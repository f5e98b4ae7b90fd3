"""The response object of Responses, and what it holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from chatcore import Message, Status
from chatcore.entities import FinishReason, Usage
from chatcore.errors import ModelContextLength, ModelRateLimited, ModelRefused
from chatcore.wire import Json
from chatcore_http.protocols.endings import failure_of
from chatcore_http.protocols.openai.ids import message_item_id, reasoning_item_id, response_id

_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "temperature": 1.0,
    "reasoning": {"effort": None, "summary": None},
    "user": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "store": True,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}
"""Fields of the request that the response repeats. Of those that were not sent: what strict clients can read."""

_INCOMPLETE: Mapping[FinishReason | None, Any] = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}
_ERROR_CODES = {
    ModelRateLimited.code: "rate_limit_exceeded",
    ModelContextLength.code: "invalid_prompt",
    ModelRefused.code: "invalid_prompt",
}


def response_object(reply: Message, asked: Mapping[str, Any]) -> Json:
    """Return the response whose output is this reply. `asked`: the body of the request."""
    status = response_status(reply)
    echoed = {name: default if (sent := asked.get(name)) is None else sent for name, default in _ECHOED.items()}
    return {
        "id": response_id(reply.conversation_id, reply.id),
        "object": "response",
        "created_at": int(reply.created_at.timestamp()),
        "completed_at": int(reply.ended_at.timestamp()) if reply.ended_at and status == "completed" else None,
        "status": status,
        "incomplete_details": _incomplete_details(reply),
        "model": reply.model or "",
        "previous_response_id": asked.get("previous_response_id"),
        "conversation": _conversation(asked.get("conversation")),
        "output": output_of(reply),
        "error": _error_of(reply),
        "usage": reply.usage and usage_object(reply.usage),
        **echoed,
        "text": _text_of(asked.get("text") or {}),
        "reasoning": {**_ECHOED["reasoning"], **(asked.get("reasoning") or {})},
    }


def _text_of(asked: Mapping[str, Any]) -> Json:
    """Return the form of the answer with all fields that Open Responses requires of one."""
    form = asked.get("format") or {"type": "text"}
    if form.get("type") == "json_schema":
        form = {"description": None, "strict": False, **form}
    return {**asked, "format": form}


def output_of(reply: Message) -> Sequence[Json]:
    """Return the output items: reasoning, then the message, of which either may be missing."""
    reasoning = [reasoning_item(reply, reply.reasoning, _reasoning_status(reply))] if reply.reasoning else []
    message = [message_item(reply, reply.content, item_status(reply))] if reply.content else []
    return [*reasoning, *message]


def reasoning_item(reply: Message, text: str, status: str) -> Json:
    content = [reasoning_part(text)] if text else []
    name = reasoning_item_id(reply.conversation_id, reply.id)
    return {"id": name, "type": "reasoning", "status": status, "summary": [], "content": content}


def message_item(reply: Message, text: str, status: str) -> Json:
    content = [text_part(text)] if text else []
    name = message_item_id(reply.conversation_id, reply.id)
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}


def reasoning_part(text: str) -> Json:
    return {"type": "reasoning_text", "text": text}


def text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response_status(reply: Message) -> str:
    match reply.status:
        case Status.WRITING:
            return "in_progress"
        case Status.COMPLETE:
            return "incomplete" if reply.finish_reason in _INCOMPLETE else "completed"
        case Status.STOPPED:
            return "cancelled"
        case _:
            return "failed"


def item_status(reply: Message) -> str:
    """Return the status of the item with the reply's last text."""
    status = response_status(reply)
    return status if status in ("in_progress", "completed") else "incomplete"


def _reasoning_status(reply: Message) -> str:
    return "completed" if reply.content else item_status(reply)


def usage_object(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }


def _incomplete_details(reply: Message) -> Json | None:
    reason = _INCOMPLETE.get(reply.finish_reason) if reply.status is Status.COMPLETE else None
    return reason and {"reason": reason}


def _error_of(reply: Message) -> Json | None:
    """Return the error with a code of OpenAI's, which some clients read as an enumeration."""
    failure = failure_of(reply)
    return (
        None if failure is None else {"code": _ERROR_CODES.get(failure.code, "server_error"), "message": failure.detail}
    )


def _conversation(asked: Any) -> Json | None:
    """The request has its id, or an object with that."""
    return {"id": asked} if isinstance(asked, str) else asked

"""The request, in the form that an endpoint takes: most parameters have two names, or are refused by some models."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from chatcore.entities import Role
from chatcore.ports import ImagePart, ModelEndpoint, Part, Prompt, PromptMessage, TextPart
from chatcore_openai.failures import Refusal

_REMEMBERED = 1000  # endpoints
_UNSUPPORTED = re.compile(
    r"unsupported|not (be )?(support|permit|allow|recogni|accept|known|available)|does ?n.t support|unknown|unrecogni"
    r"|unexpected|extra (input|field)|additional propert|deprecated|only the default|invalid (param|arg)",
    re.IGNORECASE,
)
# What OpenAI, Google and the templates of Gemma and Mistral say where a model knows no system prompt.
_NO_SYSTEM = re.compile(
    r"system role|'system'|got system|(system|developer) instruction is not enabled"
    r"|roles (are supported|must alternate)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Form:
    """What of a question is sent, and under which name. The first form is what most servers take."""

    usage: bool = True
    temperature: bool = True
    limit: Literal["max_tokens", "max_completion_tokens"] | None = "max_tokens"
    system: bool = True
    stream: bool = True

    def question(self, endpoint: ModelEndpoint, prompt: Prompt) -> Mapping[str, object]:
        asked: dict[str, object] = {
            **{name: value for name, value in prompt.more.items() if name.lower() != "model"},
            "model": endpoint.model,
            "messages": _messages(prompt, system=self.system),
            "stream": self.stream,
        }
        if self.usage and self.stream:
            asked["stream_options"] = {"include_usage": True}
        if self.temperature and prompt.temperature is not None:
            asked["temperature"] = prompt.temperature
        if self.limit and prompt.max_tokens is not None:
            asked[self.limit] = prompt.max_tokens
        return asked

    def without(self, refusal: Refusal, asked: Mapping[str, object], prompt: Prompt) -> "Form | None":
        """The form without what was refused of `asked`, the question of the `prompt`; None if it was something else."""
        words = refusal.words
        if refusal.status in (400, 422, 500) and self.system and _NO_SYSTEM.search(words):
            other = replace(self, system=False)
            return other if any(message.role == Role.SYSTEM for message in prompt.messages) else None
        if refusal.status not in (400, 422) or not _UNSUPPORTED.search(words):
            return None
        if "stream_options" in asked and "stream_options" in words:
            return replace(self, usage=False)
        if self.stream and re.search(r"['\"`]stream['\"`]", words):
            return replace(self, stream=False)
        if "temperature" in asked and re.search(r"\btemperature\b", words):
            return replace(self, temperature=False)
        if self.limit in asked and re.search(r"\bmax_(completion_)?tokens\b", words):
            return replace(self, limit="max_completion_tokens" if self.limit == "max_tokens" else None)
        return None


def _messages(prompt: Prompt, *, system: bool) -> list[dict[str, Any]]:
    """Without a `system` prompt, its words are the beginning of what the user says."""
    messages = list[dict[str, Any]]()
    for message in prompt.messages:
        role = message.role if system or message.role != Role.SYSTEM else Role.USER
        content = _content(message)
        if not system and messages and messages[-1]["role"] == role and not message.more:
            messages[-1]["content"] = _joined(messages[-1]["content"], content)
        else:
            messages.append({**message.more, "role": role, "content": content})
    return messages


def _content(message: PromptMessage) -> str | list[Mapping[str, Any]]:
    return message.content if isinstance(message.content, str) else [_part(part) for part in message.content]


def _part(part: Part) -> Mapping[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, ImagePart):
        image = {"url": part.url} if part.detail is None else {"url": part.url, "detail": part.detail}
        return {"type": "image_url", "image_url": image}
    return part


def _joined(first: str | list[Any], second: str | list[Any]) -> str | list[Any]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    both = ([_part(TextPart(one))] if isinstance(one, str) else one for one in (first, second))
    return [part for parts in both for part in parts]


class Forms:
    """Which form each endpoint takes, as far as that was found out."""

    def __init__(self) -> None:
        self._forms = OrderedDict[tuple[str, str], Form]()

    def of(self, endpoint: ModelEndpoint) -> Form:
        return self._forms.get((endpoint.url, endpoint.model), Form())

    def remember(self, endpoint: ModelEndpoint, form: Form) -> None:
        self._forms[endpoint.url, endpoint.model] = form
        self._forms.move_to_end((endpoint.url, endpoint.model))
        if len(self._forms) > _REMEMBERED:
            self._forms.popitem(last=False)

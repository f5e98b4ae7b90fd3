"""Reasoning that a model writes into its answer between tags, as `<think>` and `</think>`, told from it as it comes."""

from typing import Literal, NamedTuple

_OPEN, _CLOSE = "<think>", "</think>"
# Those that real models use, where their servers leave them in the text.
_TAGS = {
    _OPEN: _CLOSE,
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",  # Gemini, Gemma 3
    "<reasoning>": "</reasoning>",
    "[THINK]": "[/THINK]",  # Magistral
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "\u25c1think\u25b7": "\u25c1/think\u25b7",  # Kimi-VL
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|channel>thought": "<channel|>",  # Gemma 4
    "<|channel|>analysis<|message|>": "<|end|><|start|>assistant<|channel|>final<|message|>",  # gpt-oss
}
_MAX_BLANK = 1000  # characters before an answer that are held back


class Split(NamedTuple):
    """`all_reasoned`: everything that was said before, as the answer, was reasoning too."""

    reasoning: str = ""
    answer: str = ""
    all_reasoned: bool = False


class ThinkTags:
    """The opening tag counts where the answer begins; `</think>` by itself ends a reasoning that a template has
    begun (as DeepSeek's does), unless it is quoted. `held` is what may be the beginning of a tag,
    `said` the last piece of the answer."""

    __slots__ = ("_close", "_state", "held", "said")

    def __init__(self) -> None:
        self.held: str = ""
        self.said: str = ""
        self._close = _CLOSE
        self._state: Literal["blank", "opened", "inside", "after", "answer", "over"] = "blank"

    def split(self, text: str) -> Split:
        text, self.held = self.held + text, ""
        if self._state == "blank":
            text = self._begun(text)
        if self._state == "opened":
            text = self._without_blanks(text, "inside")
        if self._state in ("opened", "inside"):
            return self._until_close(text)
        if self._state == "after":
            return Split(answer=self._without_blanks(text, "over"))
        return self._answered(text) if self._state == "answer" else Split(answer=text)

    def rest(self) -> Split:
        """What was held back, at the end."""
        held, self.held = self.held, ""
        return Split(reasoning=held) if self._state in ("opened", "inside") else Split(answer=held)

    def end(self) -> None:
        """No tag counts from here on: the reasoning comes apart from the answer."""
        self._state = "over"

    def _begun(self, text: str) -> str:
        said = text.lstrip()
        for opening, closing in _TAGS.items():
            if said.startswith(opening):
                self._state, self._close = "opened", closing
                return said.removeprefix(opening)
        if len(text) < _MAX_BLANK and any(opening.startswith(said) for opening in _TAGS):
            self.held = text
            return ""
        self._state = "answer"
        return text

    def _until_close(self, text: str) -> Split:
        reasoning, tag, answer = text.partition(self._close)
        if tag:
            self._state = "after"
            return Split(reasoning, self._without_blanks(answer, "over"))
        return Split(reasoning=self._without_beginning(text, self._close))

    def _without_blanks(self, text: str, then: Literal["inside", "over"]) -> str:
        text = text.lstrip()
        if text:
            self._state = then
        return text

    def _answered(self, text: str) -> Split:
        before, tag, after = text.partition(_CLOSE)
        if _OPEN in before or (tag and (self.said + before).endswith("`")):
            self._state = "over"  # it speaks of tags
            return Split(answer=text)
        if tag:
            self._state = "after"
            return Split(before, self._without_blanks(after, "over"), all_reasoned=True)
        answer = self._without_beginning(text, _OPEN, _CLOSE)
        self.said = answer or self.said
        return Split(answer=answer)

    def _without_beginning(self, text: str, *tags: str) -> str:
        """It without an end that may become one of the tags."""
        start = min(_beginning(tag, text) for tag in tags)
        self.held = text[start:]
        return text[:start]


def _beginning(tag: str, text: str) -> int:
    """Where the end of the text begins that is the beginning of the tag: at its very end if there is none."""
    start = text.find(tag[0], max(0, len(text) - len(tag) + 1))
    while start >= 0 and not tag.startswith(text[start:]):
        start = text.find(tag[0], start + 1)
    return len(text) if start < 0 else start

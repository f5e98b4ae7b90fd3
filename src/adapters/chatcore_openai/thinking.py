"""Reasoning that a model writes into its answer, between `<think>` and `</think>`, told from it as the text comes."""

from typing import Literal, NamedTuple

_OPEN, _CLOSE = "<think>", "</think>"
_MAX_BLANK = 1000  # characters before an answer that are held back


class Split(NamedTuple):
    """`all_reasoned`: everything that was said before, as the answer, was reasoning too."""

    reasoning: str = ""
    answer: str = ""
    all_reasoned: bool = False


class ThinkTags:
    """The opening tag counts where the answer begins; the closing tag by itself ends a reasoning that a template has
    begun (as DeepSeek's does), unless it is quoted. `held` is what may be the beginning of a tag,
    `said` the last piece of the answer."""

    __slots__ = ("_state", "held", "said")

    def __init__(self) -> None:
        self.held = ""
        self.said = ""
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
        if said.startswith(_OPEN):
            self._state = "opened"
            return said.removeprefix(_OPEN)
        if _OPEN.startswith(said) and len(text) < _MAX_BLANK:
            self.held = text
            return ""
        self._state = "answer"
        return text

    def _until_close(self, text: str) -> Split:
        reasoning, tag, answer = text.partition(_CLOSE)
        if tag:
            self._state = "after"
            return Split(reasoning, self._without_blanks(answer, "over"))
        return Split(reasoning=self._without_beginning(text))

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
        answer = self._without_beginning(text)
        self.said = answer or self.said
        return Split(answer=answer)

    def _without_beginning(self, text: str) -> str:
        """It without an end that may become a tag."""
        start = text.rfind("<", -len(_CLOSE))
        if start < 0 or not (_CLOSE.startswith(text[start:]) or _OPEN.startswith(text[start:])):
            return text
        self.held = text[start:]
        return text[:start]

"""Text in the place of what is no text: images, files, what a tool was asked and what it answered."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard, cast

_BACKTICKS = re.compile("`{3,}")
_LANGUAGE = re.compile(r"[\w+#.-]{1,30}")


def note(kind: str, about: object = "") -> str:
    """Such as `[Image: file-abc, 1024×768]`."""
    text = " ".join(about.split()) if isinstance(about, str) else ""
    return f"[{kind}: {text}]" if text else f"[{kind}]"


def fenced(text: str, language: object = "") -> str:
    """A code block, whatever is in it."""
    longest = max((len(found[0]) for found in _BACKTICKS.finditer(text)), default=2)
    fence = "`" * (longest + 1)
    known = isinstance(language, str) and language != "unknown" and _LANGUAGE.fullmatch(language)
    return f"{fence}{language if known else ''}\n{text}\n{fence}"


def as_json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        return "(nested too deeply)"


def members(value: object) -> Mapping[str, Any]:
    """An object, or an empty one in the place of anything else: what is expected need not be there."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def elements(value: object) -> Sequence[Any]:
    """As `members`, of a list."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else ()


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def text_in(value: object) -> str:
    """A string, or an empty one in the place of anything else."""
    return value if isinstance(value, str) else ""


def parted(text: str, kind: str) -> Iterator[tuple[bool, str]]:
    """The text in parts, in one pass: what is within `<details type="…">…</details>`, its tags included (True), and
    what is outside (False)."""
    at = 0
    while (start := text.find("<details", at)) >= 0 and (end := text.find("</details>", start)) >= 0:
        end += len("</details>")
        if f'type="{kind}"' in text[start : text.find(">", start, end) + 1]:
            yield False, text[at:start]
            yield True, text[start:end]
        else:
            yield False, text[at:end]
        at = end
    yield False, text[at:]

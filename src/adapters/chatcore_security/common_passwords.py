"""The passwords that are guessed first."""

from collections.abc import Container


class CommonPasswords(Container[str]):
    """The 30,000 most common passwords, in lower case, that zxcvbn knows (from leaked lists; ASVS 6.2.4).

    They are loaded when the first password is looked up, which takes about 30 ms once.
    """

    def __init__(self) -> None:
        self._passwords: frozenset[str] | None = None

    def __contains__(self, password: object) -> bool:
        if self._passwords is None:
            self._passwords = _load()
        return password in self._passwords


def _load() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # type: ignore[import-untyped]

    return frozenset(FREQUENCY_LISTS["passwords"])

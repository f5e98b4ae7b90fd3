"""The log's lines."""

import logging
from pathlib import Path

import pytest
import structlog

from chatcore_app import Settings
from chatcore_app.logs import configure_logging
from chatcore_cli.console import printable

SEPARATORS = "\u2028\u2029\x85\n\r\x0b\x0c\x1c\x1d\x1e"
HOSTILE = f"one{SEPARATORS}two\x1b[2J\u202e\u2066"


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_text_begins_a_line_or_moves_the_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    settings = Settings.load({"DATA_DIR": str(tmp_path), "LOG_FORMAT": form}, env_file=str(tmp_path / ".env"))
    configure_logging(settings)
    structlog.stdlib.get_logger("chatcore.request").info("request", path=HOSTILE)
    logging.getLogger("elsewhere").warning("said %s", HOSTILE)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "two" in line
        assert line.isprintable()


def test_what_a_command_prints_neither_moves_the_cursor_nor_turns_text_around() -> None:
    assert printable(HOSTILE).isprintable()
    assert printable("Ada 🦄 漢") == "Ada 🦄 漢"

"""The attacks of bench/hostile.py reach a server, and it lives; what it costs others is for the bench to say."""

from pathlib import Path

import pytest
from attacks import ATTACKS, Target

from integration.http_app import settings_for
from integration.ws_client import served

pytestmark = pytest.mark.once

SMALL = ("A2", "A4", "A5", "A6")
"""Those that neither prepare nor hold much."""


async def test_after_small_attacks_the_server_answers(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path, MODEL_URL_ALLOW="http://127.0.0.0/8:*")) as server:
        mallory, ada = await server.stranger.user(), await server.stranger.user()
        assert mallory.token
        url = f"http://127.0.0.1:{server.port}"
        target = Target(url, mallory.token, await mallory.conversation(), seconds=0.2)
        for name, (attack, _) in ATTACKS.items():
            if name.startswith(SMALL):
                await attack(target)
                (await ada.get("/auth/me")).ok()

"""Where a first message cannot be sent there is no conversation either, on every database."""

from pathlib import Path

import pytest

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.http_app import api_of, provided, settings_for

LIMITED = {"RATE_LIMIT_SEND": "1/hour"}
WITHOUT_A_MODEL = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "b3e7f0a94c5d4d1f8a6b2c90d7e1f358",
    "ENCRYPTION_KEYS": "kWb1p0S3yHqgM2xq0v6yCw8T9d3m5uX7nLr4oJ1aBcE=",
}


@pytest.mark.parametrize("path", ["/chat", "/agent/chat"])
@pytest.mark.parametrize(
    ("environ", "sent", "status", "code"),
    [(LIMITED, 1, 429, "rate_limited"), (WITHOUT_A_MODEL, 0, 400, "model_not_configured")],
    ids=["over the limit", "without a model"],
)
async def test_nothing_is_begun_where_nothing_can_be_said(
    database_url: str, tmp_path: Path, path: str, environ: dict[str, str], sent: int, status: int, code: str
) -> None:
    settings = settings_for(tmp_path, DATABASE_URL=database_url, SHUTDOWN_GRACE="1", **environ)
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as api:
        user = await api.user()
        for _ in range(sent):
            (await user.post(path, {"message": "Hello?"})).ok()
        for _ in range(2):
            (await user.post(path, {"message": "Hello?"})).problem(status, code)
        assert len((await user.get("/agent/conversations")).ok()) == sent

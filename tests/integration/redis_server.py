"""The Redis of tests/compose.yaml, or the one that REDIS_URL names."""

import os
from urllib.parse import urlsplit

import pytest
import redis

REDIS_URL = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"


def redis_address() -> tuple[str, int]:
    """Where it answers; where none does the test is skipped, and in CI it fails."""
    try:
        with redis.Redis.from_url(REDIS_URL) as client:
            client.ping()
    except redis.RedisError as error:
        problem = f"no Redis ({error}): `docker compose -f tests/compose.yaml up -d` gives one"
        pytest.fail(problem) if os.environ.get("CI") else pytest.skip(problem)
    parts = urlsplit(REDIS_URL)
    return parts.hostname or "127.0.0.1", parts.port or 6379

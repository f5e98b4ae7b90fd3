"""Images are decoded and encoded in slices."""

from base64 import b64encode

import pytest

from chatcore.data_urls import image_of
from chatcore.entities import Image
from chatcore.errors import ValidationFailed
from chatcore.prompt import image_parts

DATA = bytes(range(256)) * 10_000


@pytest.mark.parametrize("size", [0, 1, 2, 3, 786_431, 786_432, 786_433, 1_600_000])
async def test_a_data_url_of_any_length(size: int) -> None:
    url = "data:image/png;base64," + b64encode(DATA[:size]).decode()
    image = await image_of(url, name="url")
    assert image == Image("image/png", DATA[:size])
    assert [part.url for part in await image_parts([image])] == [url]


@pytest.mark.parametrize("data", ["Zg==" * 2, "Zg", "Z", "Zg=", "Z=g=", "Zm9\n", "Zm-_", "Zg==" + "A" * 2**20])
async def test_what_is_no_base64(data: str) -> None:
    with pytest.raises(ValidationFailed, match="base64"):
        await image_of(f"data:image/png;base64,{data}", name="url")

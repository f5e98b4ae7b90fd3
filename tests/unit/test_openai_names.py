"""Looking users' host names up: the names of one keep nobody else waiting."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from socket import AF_INET, gaierror
from threading import Event

import pytest

from chatcore_openai.names import Address, Names, NameTimeout, asking_for

FOUND = [Address(AF_INET, "93.184.216.34")]
EVE, ADA = 1, 2


class Servers:
    """The name servers: those of `silent` names do not answer before they are `woken`."""

    def __init__(self) -> None:
        self.asked = Counter[str]()
        self.woken = Event()

    def look_up(self, host: str) -> Sequence[Address]:
        self.asked[host] += 1
        if host.endswith(".silent"):
            self.woken.wait()
        if host.startswith("no."):
            raise gaierror
        return FOUND


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    servers = Servers()
    monkeypatch.setattr("chatcore_openai.names.look_up", servers.look_up)
    yield servers
    servers.woken.set()


async def ask(names: Names, host: str, user: int = EVE) -> Sequence[Address]:
    with asking_for(user):
        return await names.addresses_of(host)


async def end(tasks: Sequence["asyncio.Task[Sequence[Address]]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_silent_names_of_one_user_keep_no_other_waiting(servers: Servers) -> None:
    names = Names(at_once=5, per_user=4)
    waiting = [asyncio.create_task(ask(names, f"{number}.silent")) for number in range(100)]
    await asyncio.sleep(0.01)
    for number in range(20):
        assert await ask(names, f"model{number}.test", ADA) == FOUND
    assert sum(servers.asked[f"{number}.silent"] for number in range(100)) == 4
    await end(waiting)


async def test_look_ups_count_until_their_thread_ends(servers: Servers) -> None:
    """They cannot be stopped: a user who begins others meanwhile would have more and more of them."""
    names = Names(at_once=5, per_user=4, within=0.01)
    for number in range(20):
        with pytest.raises(NameTimeout):
            await ask(names, f"{number}.silent")
    assert sum(servers.asked.values()) == 4
    assert await ask(names, "model.test", ADA) == FOUND


async def test_a_share_is_given_back(servers: Servers) -> None:
    names = Names(at_once=1, per_user=1)
    servers.woken.set()
    for number in range(10):
        assert await ask(names, f"{number}.silent") == FOUND
        with pytest.raises(gaierror):
            await ask(names, f"no.{number}")


async def test_a_name_that_was_not_found_fails_at_once_for_a_while(servers: Servers) -> None:
    names = Names(within=0.01, failed_for=60)
    for host, failure in (("no.such", OSError), ("a.silent", NameTimeout)):
        for _ in range(3):
            with pytest.raises(failure):
                await ask(names, host)
        assert servers.asked[host] == 1


async def test_then_it_is_looked_up_again(servers: Servers) -> None:
    names = Names(failed_for=0)
    for _ in range(3):
        with pytest.raises(gaierror):
            await ask(names, "no.such")
    assert servers.asked["no.such"] == 3


async def test_an_answer_that_was_late_is_good_for_the_next(servers: Servers) -> None:
    names = Names(within=0.01, failed_for=60)
    with pytest.raises(NameTimeout):
        await ask(names, "a.silent")
    servers.woken.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await ask(names, "a.silent") == FOUND
                break
            except NameTimeout:
                await asyncio.sleep(0.01)


async def test_a_name_that_several_ask_for_is_looked_up_once(servers: Servers) -> None:
    names = Names()
    asking = [asyncio.create_task(ask(names, "a.silent", user)) for user in range(10)]
    await asyncio.sleep(0.01)
    asking.pop().cancel()
    servers.woken.set()
    assert await asyncio.gather(*asking) == [FOUND] * 9
    assert servers.asked["a.silent"] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2130706433", "0x7f.1"])
async def test_numbers_are_not_looked_up(servers: Servers, host: str) -> None:
    (address,) = await Names().addresses_of(host)
    assert address.text == ("::1" if ":" in host else "127.0.0.1")
    assert not servers.asked


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test"])
async def test_what_can_be_no_name_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="idna"):
        await Names().addresses_of(host)

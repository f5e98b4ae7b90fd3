"""An agent of the program's own as the gateway: it reasons, calls a function, and answers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from chatcore import Chat, Delta, LLMGateway, ModelEndpoint, Prompt, Turn, Usage
from chatcore_sql import Database

AGENT = ModelEndpoint(url="https://agent.invalid", model="agent", api_key="", trusted=True)


async def orders_of(turn: Turn | None) -> Sequence[str]:
    """A tool: it knows whose turn it is, and needs no word of the model's for that."""
    await asyncio.sleep(0)
    return ("a teapot", "two cups") if turn is not None and turn.user == "alice" else ()


class Agent(LLMGateway):
    async def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        yield Delta(reasoning="They ask for their orders. ", reasoned=True)
        orders = await orders_of(prompt.turn)
        yield Delta(text="You ordered ")
        yield Delta(text=" and ".join(orders) or "nothing")
        yield Delta(text=".", usage=Usage(prompt_tokens=9, completion_tokens=5, total_tokens=14))

    async def models(self, endpoint: ModelEndpoint) -> Sequence[str]:
        return ["agent"]

    async def may_call(self, url: str, *, owner: int) -> bool:
        return False  # users have no endpoints of their own


async def main() -> None:
    async with Chat(store=Database("sqlite:///chat.db"), gateway=Agent(), model=AGENT) as chat:
        me = await chat.of("alice")
        sent = await me.send("What did I order?")
        reply = await (await me.reply(sent.conversation_id)).ended()
        print(f"({reply.reasoning}) {reply.content}")


if __name__ == "__main__":
    asyncio.run(main())

"""Retrieval by a hook: what was found is put before the question, and stays out of the conversation."""

import asyncio
from dataclasses import replace

from chatcore import Chat, Hooks, Prompt, PromptMessage, Role, Turn
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database

NOTES = {"alice": ["The fridge hums in B flat.", "The cat is called Turing."]}


class Retrieval(Hooks):
    async def prompt(self, turn: Turn, prompt: Prompt) -> Prompt:
        question = {word.strip("?.,").lower() for word in prompt.messages[-1].text.split()}
        found = [note for note in NOTES.get(turn.user, ()) if question & set(note.lower().rstrip(".").split())]
        context = PromptMessage(Role.SYSTEM, "Answer from these notes:\n" + "\n".join(found))
        return replace(prompt, messages=[context, *prompt.messages])


async def main() -> None:
    hooks = Retrieval()
    async with Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT, hooks=hooks) as chat:
        me = await chat.of("alice")
        sent = await me.send("What is the cat called?")
        print((await (await me.reply(sent.conversation_id)).ended()).content)


if __name__ == "__main__":
    asyncio.run(main())

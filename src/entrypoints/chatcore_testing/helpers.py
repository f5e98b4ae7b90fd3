"""What tests do with a `Chat`."""

from chatcore import Chat, Message, ReplyStream


async def said(stream: ReplyStream) -> str:
    """Read a reply to its end, and return the text of its answer."""
    return "".join([text async for text in stream.text()])


async def finished(stream: ReplyStream) -> Message:
    """Read a reply to its end, and return it as it was stored."""
    return await stream.ended()


async def kill(chat: Chat) -> None:
    """End a `Chat` as its process's death would: nothing of it goes on, nothing more is stored, and its lease is over
    at once. Another `Chat` on the same store ends its replies as `interrupted`."""
    await chat.abandon()

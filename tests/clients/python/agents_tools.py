"""An agent of OpenAI's with a tool, and responses that are not stored. Environment: URL, KEY, MODEL, PROMPT."""

import asyncio
import json
import os

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI


@function_tool
def weather(place: str) -> str:
    """Say what the weather is like somewhere."""
    return f"Rain in {place}."


async def main() -> None:
    set_tracing_disabled(disabled=True)
    async with AsyncOpenAI(base_url=os.environ["URL"], api_key=os.environ["KEY"], max_retries=0) as client:
        model = OpenAIResponsesModel(model=os.environ["MODEL"], openai_client=client)
        agent = Agent(name="Assistant", model=model, tools=[weather], model_settings=ModelSettings(store=False))
        run = Runner.run_streamed(agent, os.environ["PROMPT"])
        async for _ in run.stream_events():
            pass
    print(json.dumps({"text": run.final_output}))


asyncio.run(main())

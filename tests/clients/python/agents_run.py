"""OpenAI's agents. Environment: URL, KEY, MODEL, PROMPT; API: chat or responses."""

import asyncio
import json
import os

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

MODELS = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}


async def main() -> None:
    set_tracing_disabled(disabled=True)
    async with AsyncOpenAI(base_url=os.environ["URL"], api_key=os.environ["KEY"], max_retries=0) as client:
        model = MODELS[os.environ["API"]](model=os.environ["MODEL"], openai_client=client)
        run = Runner.run_streamed(Agent(name="Assistant", instructions="Be brief.", model=model), os.environ["PROMPT"])
        events = [event.type async for event in run.stream_events()]
    print(json.dumps({"events": events, "text": run.final_output}))


asyncio.run(main())

"""LangChain's ChatOpenAI. Environment: URL, KEY, MODEL, PROMPT; RESPONSES=1: by Responses."""

import json
import os

from langchain_openai import ChatOpenAI

chat = ChatOpenAI(
    base_url=os.environ["URL"],
    api_key=os.environ["KEY"],
    model=os.environ["MODEL"],
    use_responses_api="RESPONSES" in os.environ,
    stream_usage=True,
    max_retries=0,
)
whole = None
pieces = []
for chunk in chat.stream(os.environ["PROMPT"]):
    pieces.append(chunk.text)
    whole = chunk if whole is None else whole + chunk
print(json.dumps({"pieces": [piece for piece in pieces if piece], "text": whole.text, "usage": whole.usage_metadata}))

"""The LLM gateway for every endpoint that speaks OpenAI's chat completions: OpenAI itself, vLLM, Ollama, llama.cpp …

Needs the extra `chatcore[openai]`. Importing this costs little: the HTTP libraries are imported by the first call, or
ahead of it by `OpenAIGateway.warm`.
"""

from chatcore_openai.egress import LOOPBACK
from chatcore_openai.gateway import OpenAIGateway

__all__ = ["LOOPBACK", "OpenAIGateway"]

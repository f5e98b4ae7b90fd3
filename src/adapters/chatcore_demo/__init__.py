"""A model that needs no network and no key: development answers with it until a real one is configured.

model = DemoModel(openai)      # answers for DEMO_ENDPOINT itself, and leaves every other endpoint to `openai`
"""

from chatcore_demo.model import DEMO_ENDPOINT, DemoModel
from chatcore_demo.relay import DemoRelay

__all__ = ["DEMO_ENDPOINT", "DemoModel", "DemoRelay"]

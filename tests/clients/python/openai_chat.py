"""OpenAI's client for Chat Completions. Environment: URL, KEY, REQUEST (JSON)."""

import json
import os

import openai

asked = json.loads(os.environ["REQUEST"])
found = {"version": openai.__version__}
with openai.OpenAI(base_url=os.environ["URL"], api_key=os.environ["KEY"], max_retries=0) as client:
    try:
        found["models"] = [model.id for model in client.models.list()]
        found["completion"] = client.chat.completions.create(**asked).to_dict()
        found["chunks"] = [chunk.to_dict() for chunk in client.chat.completions.create(**asked, stream=True)]
    except openai.APIError as error:
        status = getattr(error, "status_code", None)
        found["error"] = {"name": type(error).__name__, "status": status, "code": error.code, "message": error.message}
print(json.dumps(found))

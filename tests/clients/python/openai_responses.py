"""OpenAI's client for Responses. Environment: URL, KEY, and RESPONSE to resume after the event AFTER, or REQUEST (JSON)
to create. RETRIEVE: ask the server to begin after that event, instead of dropping those before it."""

import json
import os

import openai

after = {"starting_after": int(os.environ["AFTER"])} if "AFTER" in os.environ else {}
name, found = os.environ.get("RESPONSE"), {"version": openai.__version__, "events": []}
with openai.OpenAI(base_url=os.environ["URL"], api_key=os.environ["KEY"], max_retries=0) as client:
    try:
        if "RETRIEVE" in os.environ:
            found["events"] = [it.to_dict() for it in client.responses.retrieve(name, stream=True, **after)]
        else:
            asked = {"response_id": name, **after} if name else json.loads(os.environ["REQUEST"])
            with client.responses.stream(**asked) as stream:
                found["events"] = [event.to_dict() for event in stream]
                response = stream.get_final_response()
            found |= {"response": response.to_dict(), "text": response.output_text}
    except (openai.APIError, RuntimeError) as error:
        found["error"] = {"name": type(error).__name__, "message": str(error)}
print(json.dumps(found))

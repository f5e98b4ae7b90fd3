// OpenAI's client for Responses. Environment: URL, KEY, RESPONSE and AFTER to resume, or REQUEST (JSON) to create.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.URL, apiKey: process.env.KEY, maxRetries: 0 });
const after = process.env.AFTER === undefined ? {} : { starting_after: Number(process.env.AFTER) };
const asked = process.env.RESPONSE
  ? { response_id: process.env.RESPONSE, ...after }
  : JSON.parse(process.env.REQUEST);

const events = [];
let response = null;
let error = null;
try {
  const stream = client.responses.stream(asked);
  for await (const event of stream) events.push(event);
  response = await stream.finalResponse();
} catch (failure) {
  error = failure.message;
}
console.log(JSON.stringify({ events, response, text: response?.output_text ?? null, error }));

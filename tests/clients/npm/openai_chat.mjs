// OpenAI's client for Chat Completions. Environment: URL, KEY, REQUEST (JSON).
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.URL, apiKey: process.env.KEY, maxRetries: 0 });
const asked = JSON.parse(process.env.REQUEST);
const found = {};
try {
  found.models = (await client.models.list()).data.map((model) => model.id);
  found.completion = await client.chat.completions.create(asked);
  found.chunks = [];
  const stream = await client.chat.completions.create({ ...asked, stream: true });
  for await (const chunk of stream) found.chunks.push(chunk);
} catch (error) {
  found.error = { name: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  found.error.message = error.message;
}
console.log(JSON.stringify(found));

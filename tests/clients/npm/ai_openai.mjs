// The AI SDK's provider for OpenAI. Environment: URL, KEY, MODEL, API (chat or responses), PROMPT;
// OPTIONS: the provider's, as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { streamText } from "ai";

const openai = createOpenAI({ baseURL: process.env.URL, apiKey: process.env.KEY });
const errors = [];
const result = streamText({
  model: openai[process.env.API](process.env.MODEL),
  prompt: process.env.PROMPT,
  providerOptions: JSON.parse(process.env.OPTIONS ?? "{}"),
  maxRetries: 0,
  onError: ({ error }) => void errors.push(error.message ?? String(error)),
});
const parts = [];
for await (const part of result.fullStream) parts.push(part.type);
const settled = errors.length === 0;
console.log(
  JSON.stringify({
    parts,
    errors,
    text: settled ? await result.text : null,
    reasoning: settled ? ((await result.reasoningText) ?? null) : null,
    finishReason: settled ? await result.finishReason : null,
    usage: settled ? await result.usage : null,
  }),
);

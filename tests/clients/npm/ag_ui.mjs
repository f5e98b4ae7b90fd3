// AG-UI's client, whose verifier refuses events out of order. Environment: URL, KEY, THREAD, RUN, MESSAGES
// and TOOLS (JSON).
import { HttpAgent } from "@ag-ui/client";

const events = [];
const agent = new HttpAgent({
  url: process.env.URL,
  headers: { Authorization: `Bearer ${process.env.KEY}` },
  threadId: process.env.THREAD,
  initialMessages: JSON.parse(process.env.MESSAGES),
});

// Where a connection breaks within an event, the client throws once more where nobody catches it.
process.on("uncaughtException", () => {});
let error = null;
try {
  const run = { runId: process.env.RUN, tools: JSON.parse(process.env.TOOLS ?? "[]") };
  await agent.runAgent(run, { onEvent: ({ event }) => void events.push(event) });
} catch (failure) {
  error = { message: failure.message, payload: failure.payload ?? null };
}
console.log(JSON.stringify({ events, messages: agent.messages, error }));

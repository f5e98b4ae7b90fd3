// The AI SDK's transport over a WebSocket. Environment: URL, KEY, and REQUEST (JSON), or RESUME=chatId.
import { WebSocketChatTransport, readUIMessageStream } from "ai7";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("", { url: process.env.ORIGIN });
const transport = new WebSocketChatTransport({
  url: process.env.URL,
  protocols: ["chatcore.v1", `bearer.${process.env.KEY}`],
  webSocket: window.WebSocket,
});
const found = { message: null, errors: [], active: true };
const asked = { headers: {}, body: {}, metadata: undefined, abortSignal: undefined };
try {
  const stream = process.env.RESUME
    ? await transport.reconnectToStream({ ...asked, chatId: process.env.RESUME })
    : await transport.sendMessages({ ...asked, ...JSON.parse(process.env.REQUEST) });
  found.active = stream !== null;
  const onError = (error) => found.errors.push(error.message);
  if (stream !== null) {
    for await (found.message of readUIMessageStream({ stream, onError }));
  }
} catch (error) {
  found.errors.push(error.message);
}
transport.close();
window.close();
console.log(JSON.stringify(found));

// `useChat` in a page: what a person sees after each of STEPS (JSON): {send: text} | {regenerate: true} | {resume: true}.
// Environment: URL, KEY, CHAT, STEPS, MESSAGES (JSON, those the page begins with).
import { JSDOM } from "jsdom";

const { window } = new JSDOM("<div id=app></div>", { url: process.env.URL });
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
Object.defineProperty(globalThis, "navigator", { value: window.navigator, configurable: true });

const { act, createElement } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useChat } = await import("@ai-sdk/react");
const { DefaultChatTransport } = await import("ai");

const transport = new DefaultChatTransport({
  api: process.env.URL,
  headers: { Authorization: `Bearer ${process.env.KEY}` },
});
let chat;
function Page() {
  chat = useChat({ id: process.env.CHAT, messages: JSON.parse(process.env.MESSAGES), transport });
  return createElement("p", null, chat.messages.map(({ role }) => role).join());
}

const root = createRoot(window.document.getElementById("app"));
await act(async () => root.render(createElement(Page)));
const seen = [];
for (const step of JSON.parse(process.env.STEPS)) {
  await act(async () => {
    if (step.send) await chat.sendMessage({ text: step.send, messageId: step.messageId });
    else if (step.regenerate) await chat.regenerate();
    else await chat.resumeStream();
  });
  const { messages, status, error } = chat;
  seen.push({ messages, status, error: error?.message ?? null, shown: window.document.body.textContent });
}
await act(async () => root.unmount());
window.close();
console.log(JSON.stringify(seen));
process.exit(0);

// The AI SDK, as `useChat` uses it: sends a message and puts the answer's chunks together.
// Environment: PACKAGE (ai or ai7), URL, KEY, REQUEST (JSON: chatId, messages, trigger, messageId), or RESUME=chatId.
const { DefaultChatTransport, readUIMessageStream } = await import(process.env.PACKAGE);

const chunks = [];
const errors = [];
let message = null;
const transport = new DefaultChatTransport({
  api: process.env.URL,
  headers: { Authorization: `Bearer ${process.env.KEY}` },
});
const asked = { headers: {}, body: {}, metadata: undefined, abortSignal: undefined };
try {
  const stream = process.env.RESUME
    ? await transport.reconnectToStream({ ...asked, chatId: process.env.RESUME })
    : await transport.sendMessages({ ...asked, ...JSON.parse(process.env.REQUEST) });
  const [listed, read] = stream === null ? [[], null] : stream.tee();
  const listing = (async () => {
    for await (const chunk of listed) chunks.push(chunk);
  })();
  if (read !== null) {
    const onError = (error) => errors.push(error.message);
    for await (message of readUIMessageStream({ stream: read, onError }));
  }
  await listing;
} catch (error) {
  errors.push(error.message);
}
console.log(JSON.stringify({ chunks, message, errors }));

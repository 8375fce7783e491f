// Requests to the server that the page came from.

import { loadKey } from "./store.js";

// An answer that is an error; `status` is 0 where there was none.
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const listModels = async () => (await (await ask("v1/models")).json()).data;

export const readThreads = async (signal) => (await ask("threads", { signal })).json();

// Streams the answer to `body`, a chat completion: calls `take` with each chunk. `signal` ends it.
export async function streamChat(body, signal, take) {
  const response = await ask("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const content of events(response.body)) {
    if (content === "[DONE]") return;
    const chunk = JSON.parse(content);
    if (chunk.error) throw new ApiError(response.status, chunk.error.message);
    take(chunk);
  }
  throw new ApiError(0, "");
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  const key = loadKey();
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(0, "");
  }
  if (!response.ok) throw new ApiError(response.status, await reason(response));
  return response;
}

async function reason(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

// The data of server-sent events, one line each as weft sends them.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

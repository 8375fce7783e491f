// One answer under way: asks for it, keeps its message growing, counts tokens and time.

import { streamChat } from "./api.js";

const NUMBERS = ["temperature", "max_tokens", "top_p", "top_k", "min_p", "repetition_penalty", "seed"];
const MEASURABLE_MS = 100;

// Streams the answer to `conversation` into `message`, calling `grown` after each piece; ends when `signal` says
// so, with what has come. Throws ApiError.
export async function answer(conversation, message, signal, grown) {
  const clock = { asked: performance.now(), first: 0, last: 0, pieces: 0 };
  try {
    await streamChat(body(conversation, message), signal, (chunk) => {
      take(chunk, message, clock);
      grown();
    });
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    message.finish = "stopped";
  }
}

// The request: what is set, and the messages before `answer`.
function body({ settings, messages }, answer) {
  const before = messages.slice(0, messages.indexOf(answer)).map(({ role, content }) => ({ role, content }));
  const system = settings.system?.trim() ? [{ role: "system", content: settings.system }] : [];
  const request = { messages: [...system, ...before] };
  if (settings.model) request.model = settings.model;
  for (const name of NUMBERS) if (Number.isFinite(settings[name])) request[name] = settings[name];
  return request;
}

function take(chunk, message, clock) {
  const [choice] = chunk.choices;
  if (choice?.delta.content) {
    clock.last = performance.now();
    clock.first ||= clock.last;
    clock.pieces += 1;
    message.content += choice.delta.content;
  }
  if (choice?.finish_reason) message.finish = choice.finish_reason;
  message.stats = stats(chunk.usage, clock);
}

// Until the end the number of pieces stands for that of tokens, which it seldom differs from.
function stats(usage, { asked, first, last, pieces }) {
  const tokens = usage ? usage.completion_tokens : pieces;
  if (!first) return null;
  return { tokens, exact: Boolean(usage), rate: 1000 * rate(tokens, asked, first, last), first: (first - asked) / 1000 };
}

// Tokens in a millisecond, from the first to the last; pieces that came in one go say nothing of it, so that
// then the whole time counts.
function rate(tokens, asked, first, last) {
  return last - first >= MEASURABLE_MS ? (tokens - 1) / (last - first) : tokens / (last - asked);
}

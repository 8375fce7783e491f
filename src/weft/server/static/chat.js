// The conversation in the middle of the page: its messages, the field to write in, and the answer under way.

import { answer } from "./answer.js";
import { ApiError } from "./api.js";
import { MessageView } from "./messages.js";
import { say } from "./words.js";

const NEAR_END_PX = 80;
const byId = (id) => document.getElementById(id);

export class Chat {
  // `kept` is called with the conversation when it is to be kept, `keyWanted` when the server asks for a key.
  constructor({ kept, keyWanted }) {
    this.kept = kept;
    this.keyWanted = keyWanted;
    this.conversation = null;
    this.stopping = null; // while an answer is under way: what ends it
    this.scroll = byId("scroll");
    this.prompt = byId("prompt");
    this.listen();
  }

  // Shows `conversation`; an answer under way in another one is stopped, and kept there.
  open(conversation) {
    this.stop();
    this.conversation = conversation;
    this.draw();
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  // Draws everything anew, in the language of now.
  draw() {
    const views = this.conversation.messages.map((message) => this.view(message));
    byId("messages").replaceChildren(...views.map((view) => view.element));
    byId("welcome").hidden = views.length > 0;
    byId("ideas").replaceChildren(...say("ideas").map((idea) => this.idea(idea)));
    byId("rate").textContent = "";
    this.fit();
  }

  stop() {
    this.stopping?.abort();
  }

  get isAnswering() {
    return this.stopping !== null;
  }

  listen() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("stop").addEventListener("click", () => this.stop());
    byId("to-end").addEventListener("click", () => this.toEnd());
    this.prompt.addEventListener("input", () => this.fit());
    this.prompt.addEventListener("keydown", (event) => {
      // While Chinese is composed, Enter chooses characters.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.send();
    });
    addEventListener("pagehide", () => this.keepPart());
    this.scroll.addEventListener("scroll", () => (byId("to-end").hidden = this.isNearEnd()), { passive: true });
  }

  send(text = this.prompt.value) {
    if (this.isAnswering || !text.trim()) return;
    this.prompt.value = "";
    const { conversation } = this;
    const message = { role: "user", content: text.trim() };
    conversation.messages.push(message);
    conversation.title ||= [...message.content.replace(/\s+/g, " ")].slice(0, 60).join("");
    this.draw();
    this.answer();
  }

  // Asks for the answer to the last message of the user, in place of the one that is there.
  async answer() {
    const { conversation } = this;
    while (conversation.messages.at(-1)?.role === "assistant") conversation.messages.pop();
    this.draw();
    this.kept(conversation);
    const message = { role: "assistant", content: "" };
    conversation.messages.push(message);
    const view = this.view(message);
    byId("messages").append(view.element);
    const stopping = new AbortController();
    this.begin(view, stopping);
    try {
      await answer(conversation, message, stopping.signal, this.painter(conversation, view));
    } catch (error) {
      this.fail(error, view);
    }
    this.end(conversation, view, stopping);
  }

  begin(view, stopping) {
    this.stopping = stopping;
    this.showAnswering();
    view.setWriting(true);
    byId("status").textContent = say("answering");
    this.toEnd();
  }

  // Shows what came at most once for each picture that the screen shows.
  painter(conversation, view) {
    let asked = false;
    return () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        if (this.conversation !== conversation) return;
        const follows = this.isNearEnd();
        view.update();
        byId("rate").textContent = rateText(view.message);
        if (follows) this.toEnd();
      });
    };
  }

  fail(error, view) {
    if (!(error instanceof ApiError)) throw error;
    const empty = view.message.content === "";
    view.showError(error.message || say(empty ? "offline" : "cutOff"));
    if (error.status === 401) this.keyWanted();
  }

  end(conversation, view, stopping) {
    if (view.message.content === "") conversation.messages.pop();
    view.setWriting(false);
    if (this.stopping === stopping) {
      this.stopping = null;
      this.showAnswering();
    }
    if (this.conversation === conversation) {
      const follows = this.isNearEnd();
      view.update();
      byId("rate").textContent = rateText(view.message);
      if (follows) this.toEnd();
      byId("status").textContent = say(view.message.finish === "stopped" ? "stopped" : "done");
    }
    this.kept(conversation);
  }

  // The page is left in mid-answer: what has come is kept.
  keepPart() {
    const message = this.conversation.messages.at(-1);
    if (!this.isAnswering || !message.content) return;
    message.finish = "stopped";
    this.kept(this.conversation);
  }

  showAnswering() {
    byId("stop").hidden = !this.isAnswering;
    byId("send").hidden = this.isAnswering;
  }

  view(message) {
    return new MessageView(message, {
      again: () => this.cutAt(message) && this.answer(),
      edit: () => this.cutAt(message) && this.rewrite(message.content),
    });
  }

  // Takes `message` and what follows it away, unless an answer is under way; whether it did.
  cutAt(message) {
    if (this.isAnswering) return false;
    const { messages } = this.conversation;
    const place = messages.indexOf(message);
    if (place >= 0) messages.splice(place); // else it is an answer that failed, and never was among them
    return true;
  }

  rewrite(text) {
    this.draw();
    this.prompt.value = text;
    this.fit();
    this.prompt.focus();
  }

  idea(text) {
    const button = document.createElement("button");
    button.textContent = text;
    button.addEventListener("click", () => this.send(text));
    return button;
  }

  // The field is as high as its text, up to a limit that the style sheet sets.
  fit() {
    this.prompt.style.height = "auto";
    this.prompt.style.height = `${this.prompt.scrollHeight}px`;
  }

  isNearEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroll;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  toEnd() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }
}

function rateText({ stats }) {
  return stats?.rate ? `${stats.rate.toFixed(1)} ${say("tokensPerSecond")}` : "";
}

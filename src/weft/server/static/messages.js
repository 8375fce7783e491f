// The messages of a conversation as elements.

import { show } from "./markdown.js";
import { say } from "./words.js";

const template = document.getElementById("message-template");
const COPIED_MS = 1200;

// One message on the page. `again` is called when another answer is wanted, `edit` when the question shall be
// another.
export class MessageView {
  constructor(message, { again, edit }) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.message = message;
    const part = (name) => this.element.querySelector(`.message-${name}`);
    this.text = part("text");
    this.error = part("error");
    this.facts = part("facts");
    this.element.classList.add(message.role);
    part("role").textContent = say(message.role === "user" ? "you" : "assistant");
    arm(part("copy"), "copy", (button) => copyText(button, message.content));
    arm(part("again"), "again", again);
    arm(part("edit"), "edit", edit);
    part(message.role === "user" ? "again" : "edit").remove();
    this.update();
  }

  // Shows the message as it is now; it may have grown.
  update() {
    const { role, content } = this.message;
    if (role === "user") this.text.textContent = content;
    else show(this.text, content, codeButton);
    this.facts.textContent = facts(this.message);
  }

  // Whether the answer is still being written.
  setWriting(writing) {
    this.element.classList.toggle("writing", writing);
    this.element.ariaBusy = String(writing);
  }

  showError(text) {
    this.error.textContent = text;
    this.error.hidden = false;
  }
}

// What is known of an answer: tokens, speed, and why it ended where that is not plain.
function facts({ stats, finish }) {
  const told = [];
  if (stats?.tokens) told.push(`${stats.exact ? "" : "≈ "}${stats.tokens} ${say("tokens")}`);
  if (stats?.rate) told.push(`${stats.rate.toFixed(1)} ${say("tokensPerSecond")}`);
  if (stats?.first) told.push(`${say("firstToken")} ${stats.first.toFixed(2)} s`);
  if (finish === "stopped" || finish === "length") told.push(say(finish));
  return told.join(" · ");
}

function codeButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "code-copy";
  button.textContent = say("copyCode");
  button.addEventListener("click", () => copyText(button, text, say("copyCode")));
  return button;
}

async function copyText(button, text, label = null) {
  if (!(await toClipboard(text))) return;
  button.classList.add("copied");
  if (label) button.textContent = say("copied");
  setTimeout(() => {
    button.classList.remove("copied");
    if (label) button.textContent = label;
  }, COPIED_MS);
}

// Pages without TLS, of another machine, have no clipboard: there the older way serves.
async function toClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

function arm(button, word, pressed) {
  button.ariaLabel = button.title = say(word);
  button.addEventListener("click", () => pressed(button));
}

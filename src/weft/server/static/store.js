// What the browser keeps: conversations, each under a key of its own so that two tabs do not overwrite each
// other's, the page's settings, and until the tab is closed the API key.

const CHAT = "weft.chat.";
const SETTINGS = "weft.settings";
const KEY = "weft.key";
const local = open("localStorage");
const session = open("sessionStorage");

// An id that sorts by time.
export function newConversation(settings = {}) {
  const id = Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
  return { id, title: "", messages: [], settings: { ...settings }, changed: Date.now() };
}

// All conversations, the last changed first.
export function loadConversations() {
  const found = [];
  for (let i = 0; i < local.length; i++) {
    const name = local.key(i);
    if (name.startsWith(CHAT)) {
      const conversation = read(local, name);
      if (isConversation(conversation) && CHAT + conversation.id === name) found.push(conversation);
    }
  }
  return found.sort((a, b) => b.changed - a.changed);
}

// Whether it could be kept: the browser gives each site a few megabytes.
export const saveConversation = (conversation) => write(local, CHAT + conversation.id, conversation);

export const deleteConversation = (id) => local.removeItem(CHAT + id);

// Calls `changed` when another tab changes a conversation.
export function watchConversations(changed) {
  addEventListener("storage", (event) => {
    if (event.key === null || event.key.startsWith(CHAT)) changed();
  });
}

export const loadSettings = () => read(local, SETTINGS) ?? {};

export const saveSettings = (settings) => write(local, SETTINGS, settings);

export const loadKey = () => read(session, KEY) ?? "";

export const saveKey = (key) => write(session, KEY, key);

// A browser that keeps nothing, by its settings, gets an empty storage that is always full.
function open(kind) {
  try {
    return window[kind];
  } catch {
    return { length: 0, getItem: () => null, removeItem() {} };
  }
}

function read(storage, name) {
  try {
    return JSON.parse(storage.getItem(name));
  } catch {
    return null; // written by something else
  }
}

function write(storage, name, value) {
  try {
    storage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function isConversation(value) {
  return (
    typeof value === "object" && value !== null && typeof value.id === "string" && typeof value.title === "string" &&
    typeof value.settings === "object" && value.settings !== null && Array.isArray(value.messages) &&
    value.messages.every((m) => (m?.role === "user" || m?.role === "assistant") && typeof m.content === "string")
  );
}

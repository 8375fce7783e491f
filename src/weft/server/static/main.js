// Puts the page together: conversations at the side, the chat, the panels, colours and language.

import { ApiError } from "./api.js";
import { Chat } from "./chat.js";
import { Settings } from "./settings.js";
import * as store from "./store.js";
import { ThreadsView } from "./threads.js";
import { currentLanguage, say, setLanguage } from "./words.js";

const byId = (id) => document.getElementById(id);
const THEMES = ["auto", "light", "dark"];

const page = store.loadSettings();
let conversations = store.loadConversations();
const chat = new Chat({ kept: keep, keyWanted: askForKey });
const settings = new Settings(() => keep(chat.conversation));
const threads = new ThreadsView(askForKey);

function keep(conversation) {
  conversation.changed = Date.now();
  if (conversation.messages.length) {
    if (!conversations.includes(conversation)) conversations.unshift(conversation);
    if (!store.saveConversation(conversation)) byId("status").textContent = say("full");
  }
  conversations.sort((a, b) => b.changed - a.changed);
  drawList();
}

function open(conversation) {
  chat.open(conversation);
  settings.open(conversation.settings);
  page.open = conversation.id;
  store.saveSettings(page);
  drawList();
  showSidebar(false);
}

function openNew() {
  open(store.newConversation(chat.conversation?.settings));
  byId("prompt").focus();
}

function drawList() {
  byId("conversations").replaceChildren(...conversations.map(listItem));
}

function listItem(conversation) {
  const item = byId("conversation-template").content.firstElementChild.cloneNode(true);
  const [opener, remover] = item.querySelectorAll("button");
  opener.textContent = opener.title = conversation.title;
  if (conversation.id === chat.conversation?.id) opener.ariaCurrent = "true";
  opener.addEventListener("click", () => open(conversation));
  remover.ariaLabel = remover.title = `${say("delete")}: ${conversation.title}`;
  remover.addEventListener("click", () => remove([conversation]));
  return item;
}

function remove(removed) {
  if (removed.includes(chat.conversation)) {
    chat.stop();
    chat.conversation.messages = []; // what stops now is not kept again
  }
  for (const { id } of removed) store.deleteConversation(id);
  conversations = conversations.filter((conversation) => !removed.includes(conversation));
  if (removed.includes(chat.conversation)) openNew();
  else drawList();
}

function takeFromOtherTabs() {
  const current = chat.conversation;
  conversations = store.loadConversations().map((found) => (found.id === current.id ? current : found));
  drawList();
}

function showSidebar(shown) {
  byId("sidebar").classList.toggle("shown", shown);
  byId("shade").hidden = !shown;
  if (shown) byId("new-chat").focus();
}

// Shows one panel, or none.
function showPanel(name) {
  for (const panel of ["threads", "settings"]) {
    byId(panel).hidden = panel !== name;
    byId(`open-${panel}`).ariaExpanded = String(panel === name);
  }
  document.body.classList.toggle("with-panel", name !== null);
  if (name === "threads") threads.open();
  else threads.close();
  page.panel = name;
  store.saveSettings(page);
}

function closePanel(name) {
  showPanel(null);
  byId(`open-${name}`).focus();
}

function askForKey() {
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
  byId("key").value = store.loadKey();
  byId("key").select();
}

async function connect() {
  try {
    await settings.loadModels();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) askForKey();
  }
}

function setTheme(theme) {
  page.theme = theme;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme-name").textContent = say("themes")[theme];
  byId("theme").ariaLabel = `${say("theme")}: ${say("themes")[theme]}`;
  threads.draw();
  store.saveSettings(page);
}

function speak(language) {
  setLanguage(language);
  byId("language").textContent = currentLanguage() === "en" ? "中文" : "English";
  byId("language").lang = currentLanguage() === "en" ? "zh" : "en";
  setTheme(THEMES.includes(page.theme) ? page.theme : "auto");
}

function escape(event) {
  if (event.key !== "Escape" || event.isComposing || byId("key-dialog").open) return;
  if (chat.isAnswering) chat.stop();
  else if (byId("sidebar").classList.contains("shown")) showSidebar(false);
  else if (page.panel && document.activeElement !== byId("prompt")) closePanel(page.panel);
}

function listen() {
  byId("new-chat").addEventListener("click", openNew);
  byId("open-sidebar").addEventListener("click", () => showSidebar(true));
  byId("close-sidebar").addEventListener("click", () => showSidebar(false));
  byId("shade").addEventListener("click", () => showSidebar(false));
  for (const name of ["threads", "settings"]) {
    byId(`open-${name}`).addEventListener("click", () => showPanel(byId(name).hidden ? name : null));
    document.querySelector(`[data-close=${name}]`).addEventListener("click", () => closePanel(name));
  }
  byId("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(page.theme) + 1) % THEMES.length]));
  byId("language").addEventListener("click", () => {
    page.language = currentLanguage() === "en" ? "zh" : "en";
    speak(page.language);
    if (!chat.isAnswering) chat.draw();
    settings.drawModels();
    drawList();
  });
  byId("open-key").addEventListener("click", askForKey);
  byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
  byId("key-form").addEventListener("submit", () => {
    store.saveKey(byId("key").value.trim());
    connect();
    if (page.panel === "threads") threads.open();
  });
  byId("delete-all").addEventListener("click", () => {
    if (conversations.length && confirm(say("deleteAllSure"))) remove(conversations);
  });
  document.addEventListener("keydown", escape);
  store.watchConversations(takeFromOtherTabs);
}

speak(page.language);
listen();
open(conversations.find(({ id }) => id === page.open) ?? store.newConversation(conversations[0]?.settings));
showPanel(["threads", "settings"].includes(page.panel) && innerWidth > 900 ? page.panel : null);
connect();

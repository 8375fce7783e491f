// What the page says, in English and Chinese.

const WORDS = {
  en: {
    skip: "Skip to the message field", conversations: "Conversations", openConversations: "Show conversations",
    conversation: "Conversation", newChat: "New chat", close: "Close", key: "API key", model: "Model",
    threads: "Threads", settings: "Settings", message: "Message", placeholder: "Message", send: "Send", stop: "Stop",
    toEnd: "To the end", hint: "Enter sends · Shift+Enter begins a line · Esc stops",
    welcome: "What would you like to ask?",
    welcomeText: "Answers are made on the processor cores of the computer that serves this page.",
    ideas: ["What is a loom, in two sentences?", "Write a short story about a lighthouse.",
      "List three tips for learning a language."],
    you: "You", assistant: "Answer", copy: "Copy", copied: "Copied", copyCode: "Copy code", again: "Answer again", edit: "Edit",
    delete: "Delete", deleteAll: "Delete all conversations", deleteAllSure: "Delete all conversations of this browser?",
    themes: { auto: "System", light: "Light", dark: "Dark" }, theme: "Colours",
    system: "System prompt", systemPlaceholder: "How the model should behave",
    settingsNote: "What is left empty follows the model's own recommendation.",
    settingsScope: "Settings belong to this conversation; a new one begins with the same.",
    temperature: "Temperature", maxTokens: "Longest answer, tokens", repetition: "Repetition penalty", seed: "Seed",
    keyText: "Where the server asks for a key, it is sent with each request. It is kept until this tab is closed.",
    cancel: "Cancel", use: "Use", adapterOf: "adapter of", answering: "Answering", done: "The answer is complete",
    stopped: "stopped", length: "cut at the longest answer", tokens: "tokens", tokensPerSecond: "tokens/s",
    firstToken: "first token after", full: "The browser's storage is full: this conversation will not outlive the page.",
    offline: "The server does not answer. Is it still running?", cutOff: "The connection ended in mid-answer.",
    running: "running", waiting: "waiting", kv: "KV memory", used: "in use", idle: "kept for equal beginnings",
    free: "free", lastStep: "Last step", lanes: "What each thread did in the last step", zoom: "Zoom", thread: "thread", team: "team", busy: "busy", rows: (n) => `${n} row${n === 1 ? "" : "s"}`,
    requests: (n) => `${n} request${n === 1 ? "" : "s"}`, ago: "ago", noStep: "Nothing has run since this view was opened.",
    spanHint: "Point at an operation to see what it is; meanwhile the picture stands still.",
    historyLabel: "tokens per second over the last minute",
  },
  zh: {
    skip: "跳到输入框", conversations: "对话列表", openConversations: "显示对话列表",
    conversation: "对话", newChat: "新对话", close: "关闭", key: "API 密钥", model: "模型",
    threads: "线程", settings: "设置", message: "消息", placeholder: "输入消息", send: "发送", stop: "停止",
    toEnd: "到底部", hint: "Enter 发送 · Shift+Enter 换行 · Esc 停止",
    welcome: "想问点什么？",
    welcomeText: "回答由提供本页面的计算机的处理器核心算出。",
    ideas: ["用两句话解释什么是织布机。", "写一个关于灯塔的小故事。", "列出学习语言的三个建议。"],
    you: "你", assistant: "回答", copy: "复制", copied: "已复制", copyCode: "复制代码", again: "重新回答", edit: "编辑",
    delete: "删除", deleteAll: "删除全部对话", deleteAllSure: "删除此浏览器中的全部对话？",
    themes: { auto: "跟随系统", light: "浅色", dark: "深色" }, theme: "颜色",
    system: "系统提示", systemPlaceholder: "模型应当如何表现",
    settingsNote: "留空的项目采用模型自带的建议值。",
    settingsScope: "设置属于当前对话；新对话沿用同样的设置。",
    temperature: "温度", maxTokens: "回答的最大 token 数", repetition: "重复惩罚", seed: "随机种子",
    keyText: "如果服务器要求密钥，每次请求都会带上它。关闭此标签页后即被清除。",
    cancel: "取消", use: "使用", adapterOf: "适配器，基于", answering: "正在回答", done: "回答完毕",
    stopped: "已停止", length: "达到最大长度", tokens: "token", tokensPerSecond: "token/秒",
    firstToken: "首个 token 用时", full: "浏览器存储已满：关闭页面后此对话将丢失。",
    offline: "服务器没有响应。它还在运行吗？", cutOff: "连接在回答途中断开。",
    running: "运行中", waiting: "排队中", kv: "KV 内存", used: "使用中", idle: "为相同开头保留",
    free: "空闲", lastStep: "最近一步", lanes: "每个线程在最近一步中做了什么", zoom: "缩放", thread: "线程", team: "组", busy: "忙碌", rows: (n) => `${n} 行`,
    requests: (n) => `${n} 个请求`, ago: "前", noStep: "打开此视图后还没有运行任何计算。",
    spanHint: "将指针移到某个操作上查看详情，画面会暂停。",
    historyLabel: "最近一分钟每秒的 token 数",
  },
};

let language = "en";

// The language of `choice`, or the browser's where that is neither.
export function setLanguage(choice) {
  language = Object.hasOwn(WORDS, choice) ? choice : navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  fill(document);
}

export const currentLanguage = () => language;

// The words for `name`.
export const say = (name) => WORDS[language][name];

// Writes the words into all elements under `root` that ask for them by data-text, -label and -placeholder.
function fill(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.ariaLabel = say(element.dataset.label);
    if (element.tagName === "BUTTON") element.title = element.ariaLabel;
  }
  for (const element of root.querySelectorAll("[data-placeholder]")) {
    element.placeholder = say(element.dataset.placeholder);
  }
}

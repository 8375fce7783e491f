// Text with a little Markdown, as nodes: paragraphs, headings, lists, quotes, code, bold, italic. Text only ever
// becomes text nodes, so nothing in it can be markup, a link or script.

const FENCE = /^\s{0,3}(```+|~~~+)\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^(\s*)([-*+•]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^>\s?(.*)$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const INLINE = /(`+)(.+?)\1|\*\*(?=\S)(.+?\S)\*\*|__(?=\S)(.+?\S)__|\*(?=\S)([^*]*[^\s*])\*/g;
const LONGEST_INLINE = 10000; // longer text is shown as it is: the search takes time by the square of its length

// Shows `text` in `element`; of what it showed before, blocks that are the same stay where they are, so that a
// growing text costs its last block alone, and a selection survives.
export function show(element, text, codeButton) {
  const blocks = split(text);
  blocks.forEach((block, index) => {
    const key = JSON.stringify(block);
    const known = element.children[index];
    if (known?.weftKey === key) return;
    const made = build(block, codeButton);
    made.weftKey = key;
    if (known) known.replaceWith(made);
    else element.append(made);
  });
  while (element.children.length > blocks.length) element.lastChild.remove();
}

// The blocks of `text`: { kind, … }, with lines as they are.
function split(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const taken = code(lines, at) ?? single(lines, at) ?? list(lines, at) ?? quote(lines, at) ?? paragraph(lines, at);
    if (taken.block) blocks.push(taken.block);
    at = taken.end;
  }
  return blocks;
}

function code(lines, at) {
  const fence = FENCE.exec(lines[at]);
  if (!fence) return null;
  let end = at + 1;
  while (end < lines.length && !(lines[end].trim().startsWith(fence[1]) && FENCE.test(lines[end]))) end++;
  return { block: { kind: "code", language: fence[2], text: lines.slice(at + 1, end).join("\n") }, end: end + 1 };
}

function single(lines, at) {
  if (!lines[at].trim()) return { end: at + 1 };
  if (RULE.test(lines[at])) return { block: { kind: "rule" }, end: at + 1 };
  const heading = HEADING.exec(lines[at]);
  return heading && { block: { kind: "heading", level: heading[1].length, text: heading[2] }, end: at + 1 };
}

function list(lines, at) {
  if (!ITEM.test(lines[at])) return null;
  const items = [];
  let end = at;
  for (; end < lines.length; end++) {
    const item = ITEM.exec(lines[end]);
    if (item && !RULE.test(lines[end])) {
      items.push({ depth: Math.min(Math.floor(item[1].length / 2), 6), mark: item[2], text: item[3] });
    } else if (lines[end].trim() && /^\s+/.test(lines[end])) {
      items.at(-1).text += "\n" + lines[end].trim();
    } else if (lines[end].trim() || !ITEM.test(lines[end + 1] ?? "")) {
      break;
    }
  }
  return { block: { kind: "list", items }, end };
}

function quote(lines, at) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  if (end === at) return null;
  const text = lines.slice(at, end).map((line) => QUOTE.exec(line)[1]).join("\n");
  return { block: { kind: "quote", text }, end };
}

function paragraph(lines, at) {
  let end = at + 1;
  const starts = (line) => !line.trim() || [FENCE, HEADING, ITEM, QUOTE, RULE].some((form) => form.test(line));
  while (end < lines.length && !starts(lines[end])) end++;
  return { block: { kind: "paragraph", text: lines.slice(at, end).join("\n") }, end };
}

function build(block, codeButton) {
  switch (block.kind) {
    case "code": return buildCode(block, codeButton);
    case "heading": return withInline(node(block.level < 3 ? "h3" : "h4"), block.text);
    case "list": return buildList(block.items);
    case "quote": return withInline(node("blockquote"), block.text);
    case "rule": return node("hr");
    default: return withInline(node("p"), block.text);
  }
}

function buildCode({ language, text }, codeButton) {
  const figure = node("figure", "code");
  const caption = node("figcaption");
  caption.append(language || "code", codeButton(text));
  const pre = node("pre");
  pre.tabIndex = 0; // wide code is scrolled by keyboard, too
  const content = node("code");
  content.textContent = text;
  pre.append(content);
  figure.append(caption, pre);
  return figure;
}

// Items as nested lists by their depth.
function buildList(items) {
  const root = listFor(items[0]);
  const open = [{ depth: items[0].depth, list: root }];
  for (const item of items) {
    while (open.length > 1 && item.depth < open.at(-1).depth) open.pop();
    if (item.depth > open.at(-1).depth && open.at(-1).list.lastChild) {
      const inner = listFor(item);
      open.at(-1).list.lastChild.append(inner);
      open.push({ depth: item.depth, list: inner });
    }
    open.at(-1).list.append(withInline(node("li"), item.text));
  }
  return root;
}

function listFor(item) {
  const number = parseInt(item.mark, 10);
  const list = node(Number.isNaN(number) ? "ul" : "ol");
  if (number > 1) list.start = number;
  return list;
}

function withInline(element, text) {
  let end = 0;
  for (const found of text.length > LONGEST_INLINE ? [] : text.matchAll(INLINE)) {
    element.append(text.slice(end, found.index));
    const [whole, , codeText, bold, bold2, italic] = found;
    if (codeText !== undefined) element.append(textNode("code", codeText));
    else if (italic !== undefined) element.append(withInline(node("em"), italic));
    else element.append(withInline(node("strong"), bold ?? bold2));
    end = found.index + whole.length;
  }
  element.append(text.slice(end));
  return element;
}

function textNode(name, text) {
  const element = node(name);
  element.textContent = text;
  return element;
}

function node(name, className = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  return element;
}

// A little Markdown, as DOM nodes. The text of a model only ever becomes text nodes: no HTML of it is parsed,
// and links lead to http and https alone.
'use strict';

const INLINE = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/;

function appendInline(parent, text) {
  while (text !== '') {
    const found = INLINE.exec(text);
    if (!found) break;
    parent.append(text.slice(0, found.index));
    let node;
    if (found[1]) {
      node = document.createElement('code');
      node.textContent = found[2];
    } else if (found[3]) {
      node = document.createElement('strong');
      appendInline(node, found[3]);
    } else if (found[4]) {
      node = document.createElement('em');
      appendInline(node, found[4]);
    } else {
      node = document.createElement('a');
      node.href = found[6];
      node.rel = 'noopener noreferrer';
      node.target = '_blank';
      node.textContent = found[5];
    }
    parent.append(node);
    text = text.slice(found.index + found[0].length);
  }
  parent.append(text);
}

function appendBlock(parent, name, text) {
  const node = document.createElement(name);
  appendInline(node, text);
  parent.append(node);
}

// Paragraphs, headings, lists, fenced code. Replaces what `parent` has.
function renderMarkdown(parent, text) {
  parent.replaceChildren();
  const lines = text.split('\n');
  let paragraph = [];
  const flush = () => {
    if (paragraph.length > 0) appendBlock(parent, 'p', paragraph.join('\n'));
    paragraph = [];
  };
  for (let i = 0; i < lines.length; ++i) {
    const line = lines[i];
    const fence = /^\s*(```+|~~~+)/.exec(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    const item = /^\s*([-*+]|\d+[.)])\s+(.*)$/.exec(line);
    if (fence) {
      flush();
      const code = [];
      while (++i < lines.length && !lines[i].trim().startsWith(fence[1])) code.push(lines[i]);
      const pre = document.createElement('pre');
      const inner = document.createElement('code');
      inner.textContent = code.join('\n');
      pre.append(inner);
      parent.append(pre);
    } else if (heading) {
      flush();
      appendBlock(parent, 'h' + Math.min(6, heading[1].length + 2), heading[2]);
    } else if (item) {
      flush();
      const kind = /\d/.test(item[1]) ? 'OL' : 'UL';
      if (!parent.lastElementChild || parent.lastElementChild.tagName !== kind) {
        parent.append(document.createElement(kind));
      }
      appendBlock(parent.lastElementChild, 'li', item[2]);
    } else if (line.trim() === '') {
      flush();
    } else {
      paragraph.push(line);
    }
  }
  flush();
}

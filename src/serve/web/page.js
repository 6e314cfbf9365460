'use strict';

const element = (id) => document.getElementById(id);
const turns = [];  // what is sent: {role, content, reasoning_content}
let running = null;  // the AbortController of the answer under way

function headers() {
  const key = element('key').value;
  return key === '' ? {} : {Authorization: `Bearer ${key}`};
}

function addTurn(kind) {
  const turn = document.createElement('article');
  turn.className = `turn ${kind}`;
  element('turns').append(turn);
  return turn;
}

function addNote(turn, text) {
  const note = document.createElement('footer');
  note.textContent = text;
  turn.append(note);
}

function seconds(ms) {
  const whole = Math.max(0, Math.round(ms / 1000));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

// The prompt's progress. The rate is that of the tokens that were computed, not of those that were cached.
function showProgress(progress) {
  element('progress').hidden = false;
  element('bar').value = progress.total > 0 ? progress.processed / progress.total : 0;
  const computed = progress.processed - progress.cache;
  const left = progress.total - progress.processed;
  const counts = `${progress.processed} of ${progress.total} prompt tokens` +
      (progress.cache > 0 ? ` (${progress.cache} cached)` : '');
  element('progress-text').textContent = left > 0 && computed > 0 ?
      `${counts}, about ${seconds(progress.time_ms * left / computed)} left` : counts;
}

// The assistant's turn as it grows.
class Answer {
  constructor() {
    this.turn = addTurn('assistant');
    this.reasoning = '';
    this.content = '';
  }

  take(delta) {
    if (delta.reasoning_content) {
      if (!this.fold) {
        this.fold = document.createElement('details');
        const summary = document.createElement('summary');
        summary.textContent = 'Reasoning';
        this.thought = document.createElement('p');
        this.fold.append(summary, this.thought);
        this.turn.prepend(this.fold);
      }
      this.reasoning += delta.reasoning_content;
      this.thought.textContent = this.reasoning;
    }
    if (delta.content) {
      if (!this.body) {
        this.body = document.createElement('div');
        this.body.className = 'content';
        this.turn.append(this.body);
      }
      this.content += delta.content;
      if (!this.drawing) {  // at most once a frame, however fast tokens come
        this.drawing = true;
        requestAnimationFrame(() => this.draw());
      }
    }
  }

  draw() {
    this.drawing = false;
    if (this.body) renderMarkdown(this.body, this.content);
  }
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
      const event = text.slice(0, end);
      if (event.startsWith('data: ')) yield event.slice(6);
    }
  }
}

async function readAnswer(response, answer) {
  let reason = null;
  let usage = null;
  for await (const event of events(response)) {
    if (event === '[DONE]') break;
    const chunk = JSON.parse(event);
    if (chunk.error) throw new Error(chunk.error.message);
    if (chunk.prompt_progress) showProgress(chunk.prompt_progress);
    if (chunk.usage) usage = chunk.usage;
    for (const choice of chunk.choices) {
      if (choice.delta.content || choice.delta.reasoning_content) element('progress').hidden = true;
      answer.take(choice.delta);
      reason = choice.finish_reason ?? reason;
    }
  }
  if (reason === null) throw new Error('the connection ended before the answer did');
  answer.draw();
  const counts = usage === null ? '' : `${usage.prompt_tokens} prompt tokens ` +
      `(${usage.prompt_tokens_details.cached_tokens} cached), ${usage.completion_tokens} answered`;
  addNote(answer.turn, reason === 'length' ? `${counts}; cut off at its longest` : counts);
}

async function send(text) {
  turns.push({role: 'user', content: text});
  addTurn('user').textContent = text;
  const answer = new Answer();
  running = new AbortController();
  element('send').disabled = true;
  element('stop').disabled = false;
  try {
    const thinking = element('thinking').checked;
    const response = await fetch('/v1/chat/completions', {
      method: 'POST',
      signal: running.signal,
      headers: {'Content-Type': 'application/json', ...headers()},
      body: JSON.stringify({
        model: element('model').textContent,
        messages: turns,
        stream: true,
        stream_options: {include_usage: true},
        return_progress: true,
        temperature: Number(element('temperature').value),
        max_tokens: Number(element('max-tokens').value),
        chat_template_kwargs: {thinking},
      }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    await readAnswer(response, answer);
    turns.push({role: 'assistant', content: answer.content, reasoning_content: answer.reasoning});
  } catch (error) {
    const failed = addTurn('error');
    failed.textContent = error.name === 'AbortError' ? 'Stopped.' : error.message;
    turns.pop();  // an unanswered turn is not sent again
  } finally {
    running = null;
    element('progress').hidden = true;
    element('send').disabled = false;
    element('stop').disabled = true;
    document.body.dataset.answers = Number(document.body.dataset.answers ?? 0) + 1;
  }
}

async function showModel() {
  try {
    const answer = await fetch('/v1/models', {headers: headers()});
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error.message);
    element('model').textContent = body.data[0].id;
  } catch (error) {
    element('model').textContent = error.message;
  }
}

element('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = element('prompt').value;
  if (running !== null || text.trim() === '') return;
  element('prompt').value = '';
  send(text);
});
element('prompt').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element('form').requestSubmit();
});
element('stop').addEventListener('click', () => running?.abort());
element('new').addEventListener('click', () => {
  running?.abort();
  turns.length = 0;
  element('turns').replaceChildren();
});
element('key').addEventListener('change', showModel);
showModel();
new Strip(element('strip'), headers);

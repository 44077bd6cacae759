'use strict';

// What a first try of a route sends, where the examples of its schema would not do.
const FIRST_BODIES = {
  create_generation: { prompt: 'What is the capital of France?', max_tokens: 64, temperature: 0 },
  create_chat_completion: { messages: [{ role: 'user', content: 'What is the capital of France?' }], max_tokens: 64, temperature: 0 },
  create_completion: { prompt: 'What is the capital of France?', max_tokens: 64, temperature: 0 },
  create_sweep: { prompt: 'What is the capital of France?', grid: 3, max_tokens: 48, temperature: 0 },
  create_tokens: { prompt: 'What is the capital of France?' },
};
const STEERED = ['create_generation', 'create_chat_completion', 'create_completion', 'put_profile'];
const TOLD_HEADERS = ['content-type', 'x-request-id', 'x-policy-version', 'x-steering-weights', 'retry-after'];

const byId = (id) => document.getElementById(id);
let api = {};
let weights = null;

// Text goes into the page as text, never as markup.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === 'class') element.className = value;
    else if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// `words` between backticks are code.
function prose(text) {
  const parts = (text || '').split('`');
  return parts.map((part, index) => (index % 2 ? make('code', {}, part) : part));
}

function resolve(schema) {
  let found = schema || {};
  while (found.$ref) {
    found = found.$ref.slice(2).split('/').reduce((node, step) => node[step.replaceAll('~1', '/')], api);
  }
  return found;
}

// The fields of a schema, those of its parts included.
function fieldsOf(schema) {
  const { allOf = [], properties = {}, required = [] } = resolve(schema);
  const own = Object.entries(properties).map(([name, field]) => [name, field, required.includes(name)]);
  return allOf.flatMap(fieldsOf).concat(own);
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split('/').pop();
  const types = [].concat(schema.type || []).filter((type) => type !== 'null');
  if (types.includes('array')) return `${typeOf(schema.items || {})}[]`;
  const oneOf = (schema.oneOf || schema.anyOf || []).filter((part) => part.type !== 'null');
  if (oneOf.length) return [...new Set(oneOf.map(typeOf))].join(' or ');
  return types.join(' or ') || 'any';
}

// Schemas that a field leads to.
function inside(schema) {
  if (schema.$ref) return schema;
  if (schema.items) return inside(schema.items);
  return (schema.oneOf || schema.anyOf || []).map(inside).find((part) => part) || null;
}

function bounds(schema) {
  const words = [];
  if (schema.enum) words.push(schema.enum.join(', '));
  if (schema.minimum !== undefined) words.push(`from ${schema.minimum}`);
  if (schema.maximum !== undefined) words.push(`to ${schema.maximum}`);
  if (schema.default !== undefined) words.push(`default ${JSON.stringify(schema.default)}`);
  return words.join(' ');
}

function fieldTable(schema, open = []) {
  const rows = fieldsOf(schema).map(([name, field, required]) => {
    const type = typeOf(field);
    const leads = inside(field);
    const deeper = leads && !open.includes(leads.$ref) && fieldsOf(leads).length
      ? make('details', { ontoggle: once((box) => box.append(fieldTable(leads, [...open, leads.$ref]))) },
        make('summary', {}, 'fields')) : null;
    return make('tr', {},
      make('td', {}, make('code', {}, name), required ? ' *' : ''),
      make('td', { class: 'soft' }, type, make('br'), bounds(field)),
      make('td', { class: 'text' }, ...prose(field.description || resolve(leads || field).description), deeper));
  });
  if (!rows.length) return make('p', { class: 'soft' }, ...prose(resolve(schema).description || typeOf(resolve(schema))));
  return make('table', {}, ...rows);
}

// Runs when something is opened for the first time.
function once(fill) {
  let done = false;
  return (event) => {
    if (!done && event.target.open) {
      done = true;
      fill(event.target);
    }
  };
}

function firstBody(operation, schema) {
  const known = FIRST_BODIES[operation.operationId];
  const body = known ? { ...known } : {};
  if (!known) {
    for (const [name, field] of fieldsOf(schema)) {
      if (field.example !== undefined) body[name] = field.example;
    }
  }
  if (weights && STEERED.includes(operation.operationId)) body.objective_weights = weights;
  return JSON.stringify(body, null, 2);
}

function requestOf(path, method, inputs, body) {
  let url = path.slice(1);
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of inputs) {
    if (!input.value) continue;
    if (parameter.in === 'path') url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === 'query') query.set(parameter.name, input.value);
    else headers[parameter.name] = input.value;
  }
  if (byId('key').value) headers.authorization = `Bearer ${byId('key').value}`;
  if (body) headers['content-type'] = 'application/json';
  if (query.size) url += `?${query}`;
  return { url: new URL(url, document.baseURI).href, options: { method: method.toUpperCase(), headers, body: body || undefined } };
}

function curlOf({ url, options }) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const headers = Object.entries(options.headers).map(([name, value]) => (
    `-H ${name === 'authorization' ? '"authorization: Bearer $KEY"' : quote(`${name}: ${value}`)}`));
  const data = options.body ? [`-d ${quote(options.body)}`] : [];
  return ['curl', '-N', '-X', options.method, quote(url), ...headers, ...data].join(' ');
}

async function send(request, output) {
  output.replaceChildren(make('span', { class: 'soft' }, 'waiting …'));
  try {
    const started = performance.now();
    const reply = await fetch(request.url, request.options);
    const told = TOLD_HEADERS.filter((name) => reply.headers.has(name)).map((name) => `${name}: ${reply.headers.get(name)}`);
    const status = make('span', { class: reply.ok ? '' : 'bad' }, `${reply.status} ${reply.statusText}`);
    const text = make('span');
    const time = make('span', { class: 'soft' });
    output.replaceChildren(status, time, `\n${told.join('\n')}\n\n`, text);
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) text.append(part.value);
    time.textContent = `  ${Math.round(performance.now() - started)} ms`;
    try {
      text.textContent = JSON.stringify(JSON.parse(text.textContent), null, 2);
    } catch { /* a stream, or no JSON */ }
  } catch (error) {
    output.replaceChildren(make('span', { class: 'bad' }, String(error)));
  }
}

function tryIt(path, method, operation, schema) {
  const inputs = (operation.parameters || []).map((parameter) => {
    const input = make('input', { placeholder: parameter.schema?.example ?? '' });
    return { parameter, input, label: make('label', {}, `${parameter.name} (${parameter.in})`, input) };
  });
  const body = schema ? make('textarea', { spellcheck: 'false', 'aria-label': 'Body' }) : null;
  if (body) body.value = firstBody(operation, schema);
  const output = make('pre', { hidden: '', 'aria-live': 'polite' });
  const request = () => requestOf(path, method, inputs, body?.value);
  const show = (run) => () => { output.hidden = false; run(); };
  return make('div', { class: 'try' },
    make('h3', {}, 'Try it'),
    make('div', { class: 'inputs' }, ...inputs.map(({ label }) => label)),
    body,
    make('p', {},
      make('button', { type: 'button', onclick: show(() => send(request(), output)) }, 'Send'),
      make('button', { type: 'button', class: 'plain', onclick: show(() => output.replaceChildren(curlOf(request()))) }, 'as curl')),
    output);
}

function routeOf(path, method, operation) {
  const body = operation.requestBody?.content?.['application/json']?.schema;
  const scopes = (operation.security || []).flatMap((need) => Object.values(need).flat());
  const needs = !operation.security ? 'open to all' : scopes.length ? `key with the scope ${scopes.join(', ')}` : 'any key';
  const fill = (box) => {
    const replies = Object.entries(operation.responses).map(([status, reply]) => {
      const schema = Object.values(resolve(reply).content || {})[0]?.schema;
      const fields = schema && fieldsOf(schema).length
        ? make('details', { ontoggle: once((inner) => inner.append(fieldTable(schema))) }, make('summary', {}, typeOf(schema))) : null;
      return make('tr', {}, make('td', {}, make('code', {}, status)), make('td', { class: 'text' }, ...prose(resolve(reply).description), fields));
    });
    box.append(make('div', {},
      make('p', {}, ...prose(operation.description)),
      make('p', { class: 'soft' }, `Needs: ${needs}.`),
      body ? make('h3', {}, 'Body') : null, body ? fieldTable(body) : null,
      make('h3', {}, 'Replies'), make('table', {}, ...replies),
      tryIt(path, method, operation, body)));
  };
  return make('details', { class: 'route', id: operation.operationId, ontoggle: once(fill) },
    make('summary', {},
      make('span', { class: `method ${method}` }, method.toUpperCase()),
      make('span', { class: 'path' }, path),
      make('span', { class: 'soft' }, operation.summary || '')));
}

function openNamed() {
  const box = byId(location.hash.slice(1));
  if (box?.matches('details.route')) {
    box.open = true;
    box.scrollIntoView();
  }
}

async function start() {
  api = await (await fetch('openapi.json')).json();
  byId('version').textContent = api.info.version;
  byId('about').textContent = api.info.description;
  // with keys this is refused, and the bodies come without weights
  const objectives = await fetch('v1/objectives').then((reply) => (reply.ok ? reply.json() : {})).catch(() => ({}));
  if (objectives.objectives?.length) {
    weights = Object.fromEntries(objectives.objectives.map(({ name }, index) => [name, index ? 0 : 1]));
  }
  const routes = byId('routes');
  routes.replaceChildren();
  for (const { name, description } of api.tags) {
    byId('index').append(make('h2', {}, name));
    routes.append(make('h2', {}, name), make('p', {}, description));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(item)) {
        if (!operation.tags?.includes(name)) continue;
        byId('index').append(make('a', { href: `#${operation.operationId}` }, `${method.toUpperCase()} ${path}`));
        routes.append(routeOf(path, method, operation));
      }
    }
  }
  addEventListener('hashchange', openNamed);
  openNamed();
}

start().catch((error) => byId('routes').replaceChildren(make('p', { class: 'bad' }, String(error))));

'use strict';
// Shows /status and keeps it fresh. Names and error texts come from elsewhere: they are put in as text, never as HTML.
const PERIOD = 3000, PATIENCE = 5000;
const LATE = 60, FAR = 3600, DAY = 86400;
const base = location.pathname.replace(/[^/]$/, '$&/');
const byId = id => document.getElementById(id);
let latest = null, seen = 0, lost = null, busy = false, timer = 0;

// --- texts
const count = value => new Intl.NumberFormat('en').format(value ?? 0);
const plural = (value, one, many = one + 's') => `${count(value)} ${value === 1 ? one : many}`;
const clock = time => new Date(time).toLocaleTimeString('en-GB');
const short = id => String(id).slice(-8);

function moment(time) {
  if (!time) return '–';
  const date = new Date(time), today = date.toDateString() === new Date().toDateString();
  return (today ? '' : date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' }) + ' ') + clock(time);
}

// Null: nobody knows.
function span(seconds) {
  if (seconds === null) return 'unknown';
  if (!(seconds >= 0.5)) return '0 s';
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = Math.min(3, Math.floor(Math.log2(Math.max(1, bytes ?? 0)) / 10));
  return `${((bytes ?? 0) / 1024 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

const pace = rate => `${new Intl.NumberFormat('en', { maximumFractionDigits: rate < 10 ? 1 : 0 }).format(rate)}/s`;

const severity = lag => lag >= FAR ? 'far' : lag >= LATE ? 'late' : 'good';

// --- elements: changed only where something differs, so that focus, selection and scrolling stay
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function fill(body, rows) {
  rows.forEach((cells, r) => {
    const row = body.rows[r] ?? body.insertRow();
    cells.forEach((cell, c) => {
      const { text, kind = '', link } = typeof cell === 'object' ? cell : { text: cell };
      const place = row.cells[c] ?? row.appendChild(document.createElement(c ? 'td' : 'th'));
      if (!c) place.scope = 'row';
      if (place.className !== kind) place.className = kind;
      if (link && !place.firstElementChild) place.append(document.createElement('a'));
      if (link) place.firstElementChild.href = link;
      write(link ? place.firstElementChild : place, String(text));
    });
  });
  while (body.rows.length > rows.length) body.deleteRow(-1);
}

function tile(id, kind, text, more) {
  const [value, detail] = byId(id).querySelectorAll('dd');
  byId(id).className = kind;
  write(value, text);
  write(detail, more);
}

// --- the page
function show() {
  const tables = latest.tables, sum = name => tables.reduce((all, table) => all + (table[name] ?? 0), 0);
  // Two may have one name, in two regions say.
  tables.forEach((table, index) => {
    const same = tables.filter(other => other.table === table.table);
    table.title = same.length > 1 ? `${table.table} (${same.indexOf(table) + 1})` : table.table;
  });
  const behind = table => table.lag_seconds ?? Infinity;
  const worst = [...tables].sort((a, b) => behind(b) > behind(a) ? 1 : -1)[0];
  write(byId('version'), latest.version);
  tile('ready', latest.not_ready ? 'bad' : 'good', latest.not_ready ? 'not ready' : 'ready',
    latest.not_ready ?? `started ${moment(latest.started)}`);
  tile('sink', ...sinkTile(latest.sink, latest.dead_letter_sink));
  tile('lag', worst && behind(worst) >= LATE ? 'bad' : 'good', span(worst?.lag_seconds),
    tables.length > 1 && behind(worst) > 0 ? `of table ${worst.title}` : 'of the oldest unsettled record');
  const hot = latest.longest_lane;
  tile('unsettled', '', count(sum('unsettled_events')), `${count(sum('in_flight_events'))} in flight`
    + (hot ? `; item ${hot.item}: ${count(hot.events)}, one after the other` : ''));
  tile('parked', sum('parked_items') ? 'bad' : 'good', count(sum('parked_items')), 'items whose event keeps failing');
  tile('shards', '', count(tables.reduce((all, table) => all + table.shards.length, 0)),
    `${count(sum('waiting_shards'))} waiting, ${count(sum('finished_shards'))} finished`);
  fill(byId('tables').tBodies[0], tables.map((table, index) => [
    { text: table.title, link: `#table-${index}` }, { text: state(table), kind: table.not_ready ? 'bad text' : 'text' },
    { text: span(table.lag_seconds), kind: (table.lag_seconds ?? LATE) >= LATE ? 'n bad' : 'n' },
    { text: count(table.unsettled_events), kind: 'n' }, { text: count(table.in_flight_events), kind: 'n' },
    { text: count(table.parked_items), kind: table.parked_items ? 'n bad' : 'n' },
    { text: size(table.buffered_bytes) + (table.buffer_is_full ? ' (full)' : ''), kind: 'n' },
    { text: count(table.records_read), kind: 'n' }, { text: count(table.events_delivered), kind: 'n' },
    { text: `${count(table.shards.length)} open, ${count(table.finished_shards)} finished`
      + (table.waiting_shards ? `, ${count(table.waiting_shards)} waiting` : ''), kind: 'mid' },
  ]));
  const sections = byId('details').children;
  tables.forEach((table, index) => showTable(sections[index] ?? section(index), table));
  while (sections.length > tables.length) sections[tables.length].remove();
}

// Its class, what it does, and why.
function sinkTile(sink, letters) {
  const others = letters && letters.state !== 'up' ? `. Dead-letter sink ${letters.state} since ${moment(letters.failing_since)}` : '';
  if (sink.state !== 'up') {
    return ['bad', sink.state, `since ${moment(sink.failing_since)}: ${sink.last_error} (${sink.url})${others}`];
  }
  const found = sink.capacity ? `it takes ${pace(sink.capacity)}: ` : '';
  if (sink.paused_until) return ['', `paused until ${moment(sink.paused_until)}`, `asked by the sink: ${sink.url}${others}`];
  if (sink.rate) return ['good', `limited to ${pace(sink.rate)}`, `${found}${sink.url}${others}`];
  return ['good', 'up', `${sink.url}${others}`];
}

const state = table => table.not_ready ?? (table.waiting_for ? `waiting for ${table.waiting_for}` : table.lease ? 'reading, as the owner of its lease' : 'reading');

function section(index) {
  const made = document.querySelector('template').content.firstElementChild.cloneNode(true);
  made.id = `table-${index}`;
  made.querySelector('h2').id = `title-${index}`;
  made.setAttribute('aria-labelledby', `title-${index}`);
  made.querySelector('figcaption').id = `lineage-${index}`;
  made.querySelector('svg').setAttribute('aria-labelledby', `lineage-${index}`);
  byId('details').append(made);
  new ResizeObserver(() => made.isConnected && draw(made, latest.tables[index])).observe(made.querySelector('figure'));
  return made;
}

function showTable(place, table) {
  const find = selector => place.querySelector(selector);
  write(find('h2'), table.title);
  write(find('.stream'), [...new Set(table.shards.map(shard => shard.stream))].join(', '));
  const errors = [table.not_ready, table.last_errors.sink && `sink: ${table.last_errors.sink}`].filter(Boolean);
  write(find('.trouble'), errors.join('; '));
  find('.trouble').hidden = !errors.length;
  draw(place, table);
  const shards = find('details.shards');
  if (!shards.dataset.known) shards.open = table.shards.length <= 12;
  shards.dataset.known = 'yes';
  write(shards.querySelector('summary'), `Shards of ${table.title} as a table (${count(table.shards.length)})`);
  listed(shards.querySelector('.scroll'), `Shards of ${table.title}`, table.shards.map(shard => [
    shard.shard, { text: shard.parent ?? '–', kind: 'id' }, { text: shard.state.replace('-', ' '), kind: 'word' },
    { text: span(shard.lag_seconds), kind: shard.lag_seconds >= LATE ? 'n bad' : 'n' },
    { text: count(shard.unsettled_events), kind: 'n' }, { text: shard.read_to ?? '–', kind: 'id' },
    { text: shard.settled_to ?? '–', kind: 'id' }, moment(shard.newest_record),
  ]));
  listed(find('.parked'), `Parked items of ${table.title}`, table.parked.map(item => [
    item.item, { text: item.event ?? '–', kind: 'id' }, { text: count(item.failures), kind: 'n' }, { text: item.last_error, kind: 'text' },
    moment(item.since), moment(item.last_failure),
  ]));
  listed(find('.errors'), `Last warnings and errors of ${table.title}`, table.recent_errors.map(error => [
    moment(error.time), { text: error.code, kind: 'word' }, { text: error.text, kind: 'text' },
  ]));
}

function listed(region, label, rows) {
  region.setAttribute('aria-label', label);
  fill(region.querySelector('tbody'), rows);
  const none = region.previousElementSibling;
  if (none?.className !== 'none') return;
  region.hidden = !rows.length;
  none.hidden = rows.length > 0;
}

// --- the picture: a row for each generation, a child below its parent; of finished shards the youngest generation only
function forest(table) {
  const node = (shard, open) => ({ ...shard, open, children: [], earlier: 0 });
  const all = new Map(table.finished.map(shard => [shard.shard, node(shard, false)]));
  table.shards.forEach(shard => all.set(shard.shard, node(shard, true)));
  const tops = new Set();
  for (const shard of all.values()) {
    if (!shard.open) continue;
    const parent = all.get(shard.parent);
    parent?.children.push(shard);
    if (!parent?.open) tops.add(parent ?? shard);
  }
  for (const top of tops) {
    for (let older = all.get(top.parent); older && !top.open && top.earlier < all.size; older = all.get(older.parent)) top.earlier++;
  }
  return [...tops];
}

function measure(node) {
  const inner = node.children.map(measure);
  node.leaves = Math.max(1, inner.reduce((all, child) => all + child.leaves, 0));
  node.depth = (node.open ? 1 : 0) + inner.reduce((most, child) => Math.max(most, child.depth), 0);
  return node;
}

// Lineages that do not fit beside each other are put below each other.
function bands(trees, width) {
  const total = trees.reduce((all, tree) => all + tree.leaves, 0);
  const target = Math.ceil(total / Math.ceil(total / Math.floor(width / 11)));
  const made = [];
  let leaves = Infinity;
  for (const tree of trees) {
    if (leaves + tree.leaves > target) { made.push([]); leaves = 0; }
    made.at(-1).push(tree);
    leaves += tree.leaves;
  }
  return made;
}

function svg(name, attributes, text) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  if (text !== undefined) made.textContent = text;
  return made;
}

function draw(place, table) {
  const picture = place.querySelector('svg'), width = Math.floor(picture.clientWidth);
  const drawn = JSON.stringify([width, table.shards.map(s => [s.shard, s.state, span(s.lag_seconds), s.unsettled_events]), table.finished_shards]);
  if (!width || picture.dataset.drawn === drawn) return;
  picture.dataset.drawn = drawn;
  const trees = forest(table).map(measure), shown = bands(trees, width);
  const widest = Math.max(1, ...shown.map(band => band.reduce((all, tree) => all + tree.leaves, 0)));
  const leaf = Math.min(width / widest, 220), labelled = leaf >= 84;
  const high = labelled ? 44 : 30, low = labelled ? 20 : 8, parts = [];
  let top = 2;
  for (const band of shown) {
    const first = band.some(tree => !tree.open) ? low + 10 : 0;
    let left = 0;
    for (const tree of band) {
      if (tree.open) lay(tree, left, top + first);
      else lay(tree, left, top);
      left += tree.leaves * leaf;
    }
    top += first + Math.max(...band.map(tree => tree.depth)) * (high + 10) + 6;
  }
  picture.setAttribute('height', Math.max(top - 10, 1));
  picture.replaceChildren(...parts);
  write(place.querySelector('figcaption'), caption(table, trees));

  function lay(node, x, y) {
    const wide = node.leaves * leaf - (leaf > 30 ? 6 : 2), tall = node.open ? high : low;
    const group = svg('g', { class: 'shard' });
    group.append(svg('title', {}, tip(node)), svg('rect', { x: x + 1, y, width: wide, height: tall, rx: 2,
      class: node.open ? `box ${node.state}` : 'finished' }));
    if (node.open) {
      const part = node.lag_seconds > 0 ? Math.max(.12, Math.min(1, Math.log1p(node.lag_seconds) / Math.log1p(DAY))) : .12;
      const inner = (tall - 2) * part;
      group.append(svg('rect', { x: x + 2, y: y + tall - 1 - inner, width: labelled ? 10 : wide - 2, height: inner, class: severity(node.lag_seconds) }));
    }
    if (labelled && node.open) {
      group.append(svg('text', { x: x + 18, y: y + 18 }, short(node.shard)),
        svg('text', { x: x + 18, y: y + 35, class: 'sub' }, node.state === 'settling' ? `${count(node.unsettled_events)} to settle` : span(node.lag_seconds)));
    } else if (labelled) {
      group.append(svg('text', { x: x + 8, y: y + 15, class: 'sub' }, node.earlier ? `+${node.earlier} earlier` : 'finished'));
    }
    parts.push(group);
    let left = x;
    for (const child of node.children) {
      const middle = left + child.leaves * leaf / 2;
      parts.push(svg('path', { d: `M${middle} ${y + tall}v10` }));
      lay(child, left, y + tall + 10);
      left += child.leaves * leaf;
    }
  }
}

function tip(node) {
  if (!node.open) return `${node.shard}: finished, with ${plural(node.earlier, 'earlier generation')}`;
  return `${node.shard}: ${node.state.replace('-', ' ')}, lag ${span(node.lag_seconds)}, ${count(node.unsettled_events)} unsettled`;
}

function caption(table, trees) {
  const behind = table.shards.filter(shard => shard.lag_seconds >= LATE).sort((a, b) => b.lag_seconds - a.lag_seconds);
  const worst = behind.slice(0, 3).map(shard => `${short(shard.shard)} by ${span(shard.lag_seconds)}`).join(', ');
  const generations = trees.reduce((most, tree) => Math.max(most, tree.depth), 0);
  return `Shard lineage of ${table.title}: ${plural(table.shards.length, 'open shard')} in ${plural(trees.length, 'lineage')}, `
    + `${plural(generations, 'open generation')}; ${count(table.finished_shards)} finished`
    + (table.waiting_shards ? `, ${plural(table.waiting_shards, 'more waits', 'more wait')} for a parent. ` : '. ')
    + (behind.length ? `${count(behind.length)} a minute or more behind: ${worst}${behind.length > 3 ? ' and others' : ''}.` : 'None is a minute behind.');
}

// --- freshness
function tick() {
  const age = Date.now() - seen, dead = lost !== null;
  document.body.dataset.link = dead ? 'lost' : seen ? 'live' : 'waiting';
  write(byId('link'), dead ? 'the adapter does not answer' : seen ? 'live' : 'waiting for the adapter');
  write(byId('age'), seen ? `data of ${clock(seen)}, ${span(age / 1000)} old` : 'no data yet');
  byId('lost').hidden = !dead;
  document.title = (dead ? '✕ ' : latest?.not_ready ? '! ' : '') + document.querySelector('h1').firstChild.data.trim();
  if (dead) {
    write(byId('lost'), `The adapter has not answered since ${clock(lost.since)} (${lost.why}). ${seen ? `The data is ${span(age / 1000)} old. ` : ''}`
      + `The page asks again every ${PERIOD / 1000} s.`);
  }
}

async function poll() {
  if (busy || document.hidden) return;
  busy = true;
  clearTimeout(timer);
  try {
    const answer = await fetch(`${base}status`, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    latest = await answer.json();
    show();
    [seen, lost] = [Date.now(), null];
  } catch (error) {
    lost ??= { since: Date.now(), why: '' };
    lost.why = error.name === 'TimeoutError' ? `no response within ${PATIENCE / 1000} s` : error.message;
  }
  busy = false;
  tick();
  timer = setTimeout(poll, PERIOD);
}

document.querySelectorAll('a[data-path]').forEach(link => { link.href = base + link.dataset.path; });
document.addEventListener('visibilitychange', poll);
setInterval(tick, 1000);
poll();

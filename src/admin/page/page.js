
'use strict';
// What strangers wrote goes into text nodes only, and cannot turn the direction of the rest.
(() => {
  const LEVELS = ['trusted', 'encrypted', 'verified', 'none'];
  const SHOWN = ['all', 'trusted', 'encrypted', 'verified', 'failing'];
  const SAMPLES = 30;
  const EVENTS = 60;
  const WARN_DAYS = 14;
  const $ = (id) => document.getElementById(id);
  const clean = (text) => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');

  // === making elements ===

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== null) element.setAttribute(name, value);
    }
    for (const child of children) {
      if (child !== null && child !== undefined) {
        element.append(child instanceof Node ? child : clean(child));
      }
    }
    return element;
  }
  const name = (text) => make('bdi', {}, text);
  function put(element, text) {
    const shown = clean(text);
    if (element.textContent !== shown) element.textContent = shown;
  }
  function fill(element, ...children) {
    element.replaceChildren(...children.filter((child) => child !== null));
  }

  // === words ===

  const number = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
  function rate(value) {
    return value >= 100 || value === 0 ? number.format(value) : value.toFixed(1);
  }
  function size(bytes) {
    for (const [factor, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) {
      if (bytes >= factor) return `${(bytes / factor).toFixed(1)} ${unit}`;
    }
    return `${number.format(bytes)} B`;
  }
  function span(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
  }
  const ago = (at) => (!at ? '–' : now() - at < 1.5 ? 'now' : `${span(now() - at)} ago`);
  const clock = (at) => new Date(at * 1000).toLocaleTimeString('en-GB');
  const date = (at) => new Date(at * 1000).toISOString().replace('T', ' ').replace('.000Z', ' UTC');
  const plural = (n, one, many) => `${number.format(n)} ${n === 1 ? one : many}`;

  // === charts ===

  function svg(tag, attributes) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }
  function curve(values, width, height, most, points) {
    const step = width / Math.max(1, points - 1);
    const start = width - step * (values.length - 1);
    return values.map((value, n) => {
      const y = height - 2 - (value / most) * (height - 4);
      return `${(start + n * step).toFixed(1)},${y.toFixed(1)}`;
    });
  }
  function chart(element, lines, width, height, points, filled) {
    const most = Math.max(1e-9, ...lines.flatMap(([, values]) => values));
    const parts = [svg('line', { class: 'base', x1: 0, x2: width, y1: height - 1, y2: height - 1 })];
    for (const [kind, values] of lines) {
      if (values.length < 2 || !values.some((value) => value > 0)) continue;
      const path = curve(values, width, height, most, points);
      if (filled) {
        const [first, last] = [path[0].split(',')[0], path[path.length - 1].split(',')[0]];
        const area = `${first},${height} ${path.join(' ')} ${last},${height}`;
        parts.push(svg('polygon', { class: `area ${kind}`, points: area }));
      }
      parts.push(svg('polyline', { class: `line ${kind}`, points: path.join(' ') }));
    }
    element.replaceChildren(...parts);
  }

  // === the state of things ===

  let state = null;
  let offset = 0;
  let shown = 'all';
  let sorting = { key: 'activity', down: true };
  const histories = new Map();
  const rows = new Map();
  let lastEvents = [];
  const now = () => Date.now() / 1000 + offset;

  const failing = (domain) => domain.failure !== null;
  const kind = (domain) => (domain.level === 'none' && failing(domain) ? 'failing' : domain.level);
  const daysLeft = (at) => Math.floor((at - now()) / 86400);

  function remember(domains, at) {
    const seen = new Set();
    for (const domain of domains) {
      seen.add(domain.domain);
      const total = domain.stanzas_in + domain.stanzas_out;
      const known = histories.get(domain.domain);
      if (!known) {
        histories.set(domain.domain, { at, total, rates: [] });
      } else if (at > known.at) {
        known.rates.push(Math.max(0, total - known.total) / (at - known.at));
        if (known.rates.length > SAMPLES) known.rates.shift();
        known.at = at;
        known.total = total;
      }
    }
    for (const key of histories.keys()) if (!seen.has(key)) histories.delete(key);
  }
  const current = (domain) => (histories.get(domain.domain)?.rates ?? []).at(-1) ?? 0;

  // === the table ===

  const way = (domain) => {
    if (domain.inbound && domain.outbound) return 'both';
    if (domain.inbound) return 'in';
    return domain.outbound ? 'out' : '–';
  };
  const COLUMNS = [
    { key: 'domain', title: 'Domain', class: 'name', of: (d) => d.domain },
    { key: 'way', title: 'Way', class: 'way', of: way },
    { key: 'level', title: 'Level', class: 'level-cell', of: (d) => LEVELS.length - LEVELS.indexOf(d.level) },
    { key: 'proof', title: 'Proof', class: 'proof', of: (d) => d.proofs.join(', ') },
    { key: 'tls', title: 'TLS', of: (d) => d.tls.join(', ') },
    { key: 'rate', title: 'Stanzas/s', class: 'rate', of: current },
    { key: 'in', title: 'In', class: 'num', of: (d) => d.stanzas_in },
    { key: 'out', title: 'Out', class: 'num', of: (d) => d.stanzas_out },
    { key: 'queued', title: 'Waiting', class: 'num', of: (d) => d.queued },
    { key: 'days', title: 'Cert. days', class: 'num', of: (d) => d.certificate_expires ?? Infinity },
    { key: 'activity', title: 'Last used', class: 'num traffic', of: (d) => Math.max(d.used, d.failure?.last ?? 0) },
    { key: 'failure', title: 'Last error', class: 'why', of: (d) => d.failure?.last ?? 0 },
  ];

  function buildHead() {
    for (const column of COLUMNS) {
      const button = make('button', { type: 'button' }, column.title);
      button.addEventListener('click', () => {
        const text = ['domain', 'way', 'proof', 'tls'].includes(column.key);
        const down = sorting.key === column.key ? !sorting.down : !text;
        sortBy(column.key, down);
      });
      const isNumber = (column.class ?? '').includes('num');
      column.cell = make('th', { scope: 'col', class: isNumber ? 'num' : null }, button);
      $('head').append(column.cell);
      $('sort').append(make('option', { value: column.key }, column.title));
    }
    $('sort').addEventListener('change', (event) => {
      sortBy(event.target.value, !['domain', 'way', 'proof', 'tls'].includes(event.target.value));
    });
    sortBy(sorting.key, sorting.down);
  }
  function sortBy(key, down) {
    sorting = { key, down };
    for (const column of COLUMNS) {
      if (column.key === key) column.cell.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else column.cell.removeAttribute('aria-sort');
    }
    $('sort').value = key;
    if (state) showRows();
  }
  function buildChips() {
    for (const what of SHOWN) {
      const chip = make('button', { type: 'button', 'aria-pressed': String(what === shown), 'data-show': what }, what);
      chip.addEventListener('click', () => {
        shown = what;
        for (const other of $('chips').children) {
          other.setAttribute('aria-pressed', String(other.dataset.show === what));
        }
        showRows();
      });
      $('chips').append(chip);
    }
  }

  function makeRow(key) {
    const cells = {};
    const row = make('tr', { 'data-domain': key });
    for (const column of COLUMNS) {
      cells[column.key] = make('td', { class: column.class });
      row.append(cells[column.key]);
    }
    const button = make('button', { type: 'button', title: key }, name(key));
    cells.domain.append(button);
    cells.level.append(make('span', { class: 'level' }));
    cells.failure.append(make('span'));
    cells.rate.append(svg('svg', { viewBox: '0 0 74 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' }));
    row.addEventListener('click', () => openDetails(key));
    return { row, cells };
  }
  function updateRow({ row, cells }, domain) {
    const level = kind(domain);
    const badge = cells.level.firstChild;
    badge.className = `level ${level}`;
    put(badge, level === 'none' ? '–' : level);
    put(cells.way, way(domain));
    put(cells.proof, domain.proofs.join(', ') || '–');
    put(cells.tls, domain.tls.join(', ').replaceAll('TLSv', '') || '–');
    for (const [cell, value] of [[cells.in, domain.stanzas_in], [cells.out, domain.stanzas_out], [cells.queued, domain.queued]]) {
      put(cell, value ? number.format(value) : '–');
      cell.classList.toggle('nothing', !value);
    }
    row.classList.toggle('idle', !domain.inbound && !domain.outbound);
    cells.queued.classList.toggle('warn', domain.queued > 0);
    const days = domain.certificate_expires === null ? null : daysLeft(domain.certificate_expires);
    put(cells.days, days === null ? '–' : number.format(days));
    cells.days.classList.toggle('warn', days !== null && days >= 0 && days < WARN_DAYS);
    cells.days.classList.toggle('bad', days !== null && days < 0);
    put(cells.activity, ago(Math.max(domain.used, domain.failure?.last ?? 0)));
    const why = domain.failure ? `${domain.failure.direction} ${domain.failure.reason}: ${domain.failure.detail}` : '';
    put(cells.failure.firstChild, why);
    cells.failure.classList.toggle('nil', !why);
    chart(cells.rate.firstChild, [['in', histories.get(domain.domain)?.rates ?? []]], 74, 20, SAMPLES, false);
  }
  function fits(domain, words) {
    if (shown === 'failing' ? !failing(domain) : shown !== 'all' && domain.level !== shown) return false;
    const text = [domain.domain, domain.level, way(domain), ...domain.proofs, ...domain.tls,
      domain.failure ? `${domain.failure.reason} ${domain.failure.detail} failing` : ''].join(' ').toLowerCase();
    return words.every((word) => text.includes(word));
  }
  function showRows() {
    const words = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
    const column = COLUMNS.find((c) => c.key === sorting.key);
    const compare = (a, b) => {
      const [x, y] = [column.of(a), column.of(b)];
      const order = typeof x === 'string' ? x.localeCompare(y) : x === y ? 0 : x < y ? -1 : 1;
      return (sorting.down ? -order : order) || a.domain.localeCompare(b.domain);
    };
    const wanted = state.domains.filter((domain) => fits(domain, words)).sort(compare);
    const keep = new Set(state.domains.map((domain) => domain.domain));
    for (const [key, known] of rows) {
      if (!keep.has(key)) { known.row.remove(); rows.delete(key); }
    }
    const body = $('rows');
    const order = wanted.map((domain) => {
      let known = rows.get(domain.domain);
      if (!known) { known = makeRow(domain.domain); rows.set(domain.domain, known); }
      updateRow(known, domain);
      return known.row;
    });
    // Only what stands elsewhere is moved, so that the focus stays where it is.
    let place = body.firstChild;
    for (const row of order) {
      if (row === place) place = place.nextSibling;
      else body.insertBefore(row, place);
    }
    while (place) { const next = place.nextSibling; place.remove(); place = next; }
    const nobody = state.domains.length === 0;
    $('empty').hidden = order.length > 0;
    put($('empty'), nobody ? 'No stream with a peer, and no failure.' : 'No domain fits the filter.');
    for (const chip of $('chips').children) {
      const what = chip.dataset.show;
      const count = state.domains.filter((d) => what === 'all' || (what === 'failing' ? failing(d) : d.level === what)).length;
      put(chip, `${what} ${count}`);
    }
  }

  // === the rest of the page ===

  function facts(element, pairs) {
    fill(element, ...pairs.flatMap(([term, value]) => [make('dt', {}, term), make('dd', {}, value)]));
  }
  function showTiles({ status, domains }) {
    put($('domain-count'), number.format(status.domains));
    const counts = ['trusted', 'encrypted', 'verified', 'failing', 'none']
      .map((level) => [level, domains.filter((domain) => kind(domain) === level).length])
      .filter(([, count]) => count > 0);
    const colour = (level) => `var(--${level === 'failing' ? 'bad' : level})`;
    fill($('level-bar'), ...counts.map(([level, count]) => {
      const part = make('span');
      part.style.background = colour(level);
      part.style.flexGrow = count;
      return part;
    }));
    fill($('level-legend'), ...counts.map(([level, count]) => {
      const swatch = make('span', { class: 'swatch' });
      swatch.style.background = colour(level);
      return make('li', {}, swatch, `${count} ${level === 'none' ? 'opening' : level}`);
    }));
    const { history } = status;
    const points = 150;
    const per = (values) => values.map((value) => value / history.seconds);
    const mean = (values) => {
      const last = values.slice(-3);
      return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
    };
    const [si, so, bi, bo] = [history.stanzas_in, history.stanzas_out, history.bytes_in, history.bytes_out].map(per);
    put($('stanza-in'), rate(mean(si)));
    put($('stanza-out'), rate(mean(so)));
    put($('byte-in'), size(Math.round(mean(bi))));
    put($('byte-out'), size(Math.round(mean(bo))));
    chart($('stanza-chart'), [['in', si], ['out', so]], 300, 64, points, true);
    chart($('byte-chart'), [['in', bi], ['out', bo]], 300, 64, points, true);
    const { streams, stanzas } = status;
    put($('stream-count'), number.format(streams.peer_accepted + streams.peer_opened));
    facts($('stream-facts'), [
      ['from peers', number.format(streams.peer_accepted)],
      ['to peers', number.format(streams.peer_opened)],
      ['legacy server', number.format(streams.legacy_accepted + streams.legacy_opened)],
    ]);
    put($('queue-count'), number.format(status.queued));
    facts($('queue-facts'), [
      ['returned', number.format(stanzas.bounced)],
      ['dropped', number.format(stanzas.dropped)],
      ['errors lost', number.format(stanzas.errors_lost)],
    ]);
    const days = status.certificates.map((c) => (c.ok ? c.days_left : -1));
    const least = days.length ? Math.min(...days) : 0;
    put($('certificate-days'), least < 0 ? 'none' : number.format(least));
    $('certificate-days').parentElement.className = `big ${least < 0 ? 'bad' : status.certificates.some((c) => c.is_due) ? 'warn' : ''}`;
    facts($('certificate-facts'), [
      ['local domains', number.format(status.certificates.length)],
      ['without one', number.format(status.certificates.filter((c) => !c.ok).length)],
    ]);
  }
  function showAlerts({ status }) {
    const alerts = [];
    for (const check of status.ready.filter((c) => !c.ok)) {
      alerts.push(make('p', { class: check.name === 'draining' ? 'alert warn' : 'alert' }, make('b', {}, `${check.name}: `), check.detail));
    }
    if (status.config.error) {
      alerts.push(make('p', { class: 'alert warn' }, make('b', {}, 'The old configuration stays: '), status.config.error));
    }
    // Only a change is read out.
    const text = alerts.map((alert) => alert.textContent).join('\n');
    if ($('alerts').dataset.text !== text) {
      $('alerts').dataset.text = text;
      fill($('alerts'), ...alerts);
    }
  }
  function showLists({ status, failures }) {
    fill($('certificates'), ...status.certificates.map((certificate) => {
      const { ok, days_left: left, is_due: due } = certificate;
      const word = left === null ? 'none' : plural(left, 'day', 'days');
      return make('li', {},
        make('span', { class: 'name' }, name(certificate.domain)),
        make('span', { class: !ok ? 'bad' : due ? 'warn' : 'good' }, word),
        make('span', { class: 'sub' }, certificate.issuer ?? 'no certificate names it'));
    }));
    fill($('checks'), ...status.ready.map((check) => make('li', {},
      make('span', { class: 'name' }, check.name),
      make('span', { class: check.ok ? 'good' : 'bad' }, check.ok ? 'ok' : 'not ok'),
      make('span', { class: 'sub' }, check.detail))));
    $('failures').hidden = failures.length === 0;
    // A button that has the focus must not be replaced under it.
    const held = $('failure-list').contains(document.activeElement);
    if (!held) {
      fill($('failure-list'), ...failures.slice(0, 50).map((failure) => {
        const inbound = failure.direction === 'inbound';
        const button = make('button', { type: 'button' },
          make('span', { class: 'who' }, name(inbound ? failure.remote : failure.local), ' → ', name(inbound ? failure.local : failure.remote)),
          make('span', { class: 'why' }, `${failure.reason}: ${failure.detail}`),
          make('span', { class: 'when' }, `${failure.count === 1 ? 'once' : `${number.format(failure.count)} times`}, last ${ago(failure.last)}${retry(failure)}`));
        button.addEventListener('click', () => openDetails(failure.remote));
        return make('li', {}, button);
      }));
    }
  }
  function retry(failure) {
    if (failure.retry === null) return '';
    const left = Math.round(failure.retry - now());
    return left > 0 ? `, rests ${span(left)}` : '';
  }
  function showEvents() {
    if (!lastEvents.length) return;
    fill($('events'), ...lastEvents.map((event) => {
      const inbound = event.direction === 'inbound';
      const [from, to] = inbound ? [event.remote, event.local] : [event.local, event.remote];
      const bad = ['failed', 'refused'].includes(event.what);
      return make('li', {},
        make('time', {}, clock(event.at)),
        make('b', { class: bad ? 'bad' : event.what === 'closed' ? '' : 'good' }, event.what),
        from || to ? make('span', {}, name(from ?? '?'), ' → ', name(to ?? '?'), ' ') : null,
        make('span', { class: 'faint' }, event.detail));
    }));
  }
  function show() {
    $('main').hidden = false;
    $('token').hidden = true;
    const { status } = state;
    put($('about'), `${status.version} · up ${span(status.now - status.started)} · configuration ${status.config.generation}`);
    document.title = status.failing ? `(${status.failing}) fedgate` : 'fedgate';
    showAlerts(state);
    showTiles(state);
    showRows();
    showLists(state);
  }

  // === one domain ===

  async function openDetails(domain) {
    $('details-title').replaceChildren(name(domain));
    fill($('details-body'), make('p', { class: 'empty' }, 'asking …'));
    if (!$('details').open) $('details').showModal();
    try {
      const withIt = `streams?domain=${encodeURIComponent(domain)}`;
      const [streams, failures] = await Promise.all([withIt, 'failures'].map(get));
      const parts = [
        ...failures.filter((f) => f.remote === domain).flatMap(failureParts),
        ...streams.flatMap(streamParts),
      ];
      fill($('details-body'), ...(parts.length ? parts : [make('p', { class: 'empty' }, 'There is nothing with this domain any more.')]),
        make('p', { class: 'hint' }, 'On the host: ', make('code', { class: 'mono' }, `fedgate retry ${domain}`), ' tries again at once.'));
    } catch (error) {
      fill($('details-body'), make('p', { class: 'empty' }, `No answer: ${error.message}`));
    }
  }
  function grid(pairs) {
    return make('dl', { class: 'grid' }, ...pairs.filter(([, value]) => value !== null && value !== undefined)
      .flatMap(([term, value]) => [make('dt', {}, term), make('dd', {}, value)]));
  }
  function failureParts(failure) {
    const inbound = failure.direction === 'inbound';
    const title = make('h3', {}, inbound ? 'From ' : 'To ', name(failure.remote), inbound ? ' to ' : ' from ', name(failure.local), ' fails');
    const attempts = [...failure.attempts].reverse().map((attempt) => make('li', {},
      make('span', { class: 'faint' }, `${date(attempt.at)} `), make('b', {}, `${attempt.reason} `), attempt.detail,
      attempt.steps.length ? make('ol', { class: 'mono' }, ...attempt.steps.map((step) => make('li', {}, make('span', { class: 'ms' }, `${step.ms} ms`), make('span', {}, step.text)))) : null));
    return [title, grid([
      ['why', make('span', { class: 'bad' }, `${failure.reason}: ${failure.detail}`)],
      ['how far', failure.stage],
      ['how often', failure.count === 1 ? 'once' : `${number.format(failure.count)} times`],
      ['first', date(failure.first)],
      ['last', `${date(failure.last)} (${ago(failure.last)})`],
      ['stanzas', `${failure.waiting} waiting, ${failure.returned} returned the last time`],
      ['next try', failure.retry && failure.retry > now() ? `with the first stanza after ${span(failure.retry - now())}` : 'with the next stanza'],
    ]), make('ul', { class: 'attempts', 'aria-label': 'Attempts, the latest first' }, ...attempts)];
  }
  function streamParts(stream) {
    const certificate = stream.certificate;
    return [make('h3', {}, `Stream ${stream.id}, ${stream.side} side, ${stream.origin === 'opened' ? 'opened by fedgate' : 'accepted'}`), grid([
      ['address', stream.address],
      ['level', stream.level],
      ['TLS', stream.tls ? `${stream.tls}, ${stream.cipher}` : 'none'],
      ['certificate', certificate ? `${certificate.names}, by ${certificate.issuer}` : null],
      ['expires', certificate ? `${date(certificate.not_after)} (${plural(daysLeft(certificate.not_after), 'day', 'days')})` : null],
      ['since', `${date(stream.since)} (${ago(stream.since)})`],
      ['in', `${plural(stream.stanzas_in, 'stanza', 'stanzas')}, ${size(stream.bytes_in)}`],
      ['out', `${plural(stream.stanzas_out, 'stanza', 'stanzas')}, ${size(stream.bytes_out)}`],
      ['pairs', make('span', {}, ...stream.pairs.slice(0, 20).flatMap((pair, n) => [n ? make('br') : null, name(pair.sender), ' → ', name(pair.target), ` (${pair.proof})`]))],
    ])];
  }

  // === the connection ===

  const headers = () => {
    const token = sessionStorage.getItem('token');
    return token ? { Authorization: `Bearer ${token}` } : {};
  };
  async function get(what) {
    const answer = await fetch(`/api/${what}`, { headers: headers(), cache: 'no-store' });
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer.json();
  }
  function linked(mode, text) {
    $('link').className = `link ${mode}`;
    put($('link-text'), text);
  }
  function take(event, data) {
    if (event === 'state') {
      state = JSON.parse(data);
      offset = state.status.now - Date.now() / 1000;
      remember(state.domains, state.status.now);
      linked('live', 'live');
      show();
    } else if (event === 'event') {
      lastEvents = [JSON.parse(data), ...lastEvents].slice(0, EVENTS);
      showEvents();
    }
  }
  async function watch() {
    // Not an EventSource, which cannot show a token.
    const answer = await fetch('/api/watch', { headers: headers(), cache: 'no-store' });
    if (answer.status === 401) {
      $('main').hidden = true;
      $('token').hidden = false;
      $('token-text').focus();
      linked('lost', 'token needed');
      return false;
    }
    if (!answer.ok) throw new Error(`answer ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error('ended');
      text += value;
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const message = text.slice(0, end);
        text = text.slice(end + 2);
        const line = (start) => message.split('\n').find((l) => l.startsWith(start))?.slice(start.length);
        const [event, data] = [line('event: '), line('data: ')];
        if (event && data) take(event, data);
      }
    }
  }
  async function keepWatching() {
    let wait = 500;
    for (;;) {
      const began = Date.now();
      try {
        if ((await watch()) === false) return;
      } catch {
        linked('lost', 'no connection');
      }
      wait = Date.now() - began > 10000 ? 500 : Math.min(wait * 2, 10000);
      await new Promise((resolve) => { setTimeout(resolve, wait); });
    }
  }

  // === hands ===

  const THEMES = ['auto', 'light', 'dark'];
  function theme(word) {
    if (word === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = word;
    put($('theme-text'), word);
    $('theme').setAttribute('aria-label', `Colours: ${word === 'auto' ? 'as the system' : word}`);
    localStorage.setItem('theme', word);
  }
  $('theme').addEventListener('click', () => {
    theme(THEMES[(THEMES.indexOf(localStorage.getItem('theme') ?? 'auto') + 1) % THEMES.length]);
  });
  $('filter').addEventListener('input', () => { if (state) showRows(); });
  $('details-close').addEventListener('click', () => $('details').close());
  $('details').addEventListener('click', (event) => { if (event.target === $('details')) $('details').close(); });
  document.addEventListener('keydown', (event) => {
    const typing = event.target instanceof Element && event.target.closest('input, select, dialog');
    if (event.key === '/' && !typing) {
      event.preventDefault();
      $('filter').focus();
    } else if (event.key === 'Escape' && event.target === $('filter')) {
      $('filter').value = '';
      if (state) showRows();
    } else if (['ArrowDown', 'ArrowUp'].includes(event.key) && event.target instanceof Element) {
      const row = event.target.closest('tbody tr');
      const next = event.key === 'ArrowDown' ? row?.nextElementSibling : row?.previousElementSibling;
      if (next) {
        event.preventDefault();
        next.querySelector('button').focus();
      }
    }
  });
  $('token').addEventListener('submit', (event) => {
    event.preventDefault();
    sessionStorage.setItem('token', $('token-text').value.trim());
    $('token-text').value = '';
    keepWatching();
  });
  const kept = localStorage.getItem('theme');
  if (THEMES.includes(kept)) theme(kept);
  buildHead();
  buildChips();
  keepWatching();
})();

/* Draws the figures of the cache, once a second. No library: the page is small, and works offline. */
"use strict";

(() => {
  const address = document.currentScript.dataset.figures;
  const PAUSE_MS = 1000;
  const HISTORY = 120; // seconds in the chart
  const WINDOW = 10; // seconds that "now" means

  const history = []; // {at, hot, warm, miss, latency} as totals, the newest last
  const rates = []; // {hot, warm, miss} a second, the newest last
  let updates = 0;

  // Numbers as people read them

  const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
  const digits = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 3 });
  const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : "–");

  function bytes(count) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (count >= 1024 && unit < units.length - 1) {
      count /= 1024;
      unit += 1;
    }
    return `${digits.format(count)}\u00a0${units[unit]}`; // of one piece where lines break
  }

  function duration(microseconds) {
    if (microseconds === null) return "–";
    if (microseconds < 1000) return `${digits.format(microseconds)} µs`;
    if (microseconds < 1e6) return `${digits.format(microseconds / 1000)} ms`;
    return `${digits.format(microseconds / 1e6)} s`;
  }

  // The document

  const element = (id) => document.getElementById(id);

  function show(name, text) {
    for (const place of document.querySelectorAll(`[data-show="${name}"]`)) place.textContent = text;
  }

  /* Make an element with children, which are elements or texts: nothing here is ever HTML. */
  function make(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function row(cells) {
    return make("tr", {}, ...cells.map(([text, kind]) => make("td", kind ? { class: kind } : {}, text)));
  }

  /* Return a key that may go on in the next line after each of its parts, and nowhere else. */
  function breakable(key) {
    const parts = document.createDocumentFragment();
    for (const part of key.split(/(?<=[.:_])/)) parts.append(...(parts.hasChildNodes() ? [make("wbr", {})] : []), part);
    return parts;
  }

  // Figures

  /* Return the time within which a share of the look-ups are done; null when there were none. */
  function quantile(times, share) {
    const total = times.reduce((sum, [, count]) => sum + count, 0);
    let seen = 0;
    for (const [microseconds, count] of times) {
      seen += count;
      if (total && seen >= share * total) return microseconds;
    }
    return null;
  }

  /* Return what was added to a histogram since an earlier one. */
  function since(times, earlier) {
    const before = new Map(earlier || []);
    return times.map(([time, count]) => [time, Math.max(0, count - (before.get(time) || 0))]);
  }

  function remember(figures) {
    const last = history.at(-1);
    const now = { at: figures.at, hot: figures.hot_hits, warm: figures.warm_hits, miss: figures.misses, latency: figures.latency };
    if (last && now.at > last.at) {
      const seconds = now.at - last.at;
      const rate = (name) => Math.max(0, now[name] - last[name]) / seconds; // a cleared cache counts anew
      rates.push({ hot: rate("hot"), warm: rate("warm"), miss: rate("miss") });
      if (rates.length > HISTORY) rates.shift();
    }
    history.push(now);
    if (history.length > WINDOW + 1) history.shift();
  }

  // Drawing

  function drawTiles(figures) {
    const earlier = history[0];
    const now = history.at(-1);
    const grown = (name) => Math.max(0, now[name] - earlier[name]);
    const looked = grown("hot") + grown("warm") + grown("miss");
    const seconds = now.at - earlier.at;
    const recent = looked ? (grown("hot") + grown("warm")) / looked : figures.hit_ratio;
    show("hit-now", percent(recent));
    show("hit-all", `${percent(figures.hit_ratio)} since the pool was made`);
    show("rate", seconds ? digits.format(looked / seconds) : "0");
    show("lookups", `${whole.format(figures.lookups)} in all`);

    const hits = figures.latency.hit || [];
    const fresh = since(hits, earlier.latency.hit);
    const timed = quantile(fresh, 0.5) === null ? hits : fresh; // in a quiet moment, of all time
    show("hit-p50", duration(quantile(timed, 0.5)));
    show("hit-p99", `99 % within ${duration(quantile(timed, 0.99))}`);
    show("load-p50", duration(quantile(figures.latency.load || [], 0.5)));

    show("used", percent(figures.used_ratio));
    show("capacity", `${bytes(figures.pool.pool_size_used)} of ${bytes(figures.pool.capacity_bytes)}`);
    show("waits", whole.format(figures.totals.load_waits));
    show("loads", `beside ${whole.format(figures.totals.loads)} loads`);
    show("attached", whole.format(figures.pool.attached));
  }

  function drawChart() {
    const kinds = ["hot", "warm", "miss"];
    const top = Math.max(1, ...rates.map((rate) => rate.hot + rate.warm + rate.miss));
    const chart = element("chart");
    chart.replaceChildren();
    const width = 1000 / HISTORY;
    rates.forEach((rate, index) => {
      let y = 200;
      for (const kind of kinds) {
        const height = (190 * rate[kind]) / top;
        y -= height;
        if (height < 0.1) continue;
        const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        const x = 1000 - (rates.length - index) * width;
        const place = { x, y, width: width * 0.82, height, class: kind };
        for (const [name, value] of Object.entries(place)) bar.setAttribute(name, value);
        chart.append(bar);
      }
    });
    element("chart-top").textContent = `highest: ${digits.format(top)} a second`;
  }

  function drawShares(figures) {
    const shares = [["hot", figures.hot_ratio], ["warm", figures.warm_ratio], ["miss", figures.miss_ratio]];
    const parts = shares.map(([kind, share]) => make("span", { class: kind, style: `width: ${100 * share}%` }));
    element("shares").replaceChildren(...parts);
    element("shares").setAttribute("aria-label", shares.map(([kind, share]) => `${kind} ${percent(share)}`).join(", "));
  }

  function drawLatency(figures) {
    const names = { hit: "A hit", get_many: "get_many of fifty", load: "A load, after a miss" };
    const all = Object.values(figures.latency).flat().map(([time]) => time);
    if (!all.length) {
      element("latency").replaceChildren(make("p", { class: "muted" }, "Nothing was looked up yet."));
      return;
    }
    const first = Math.floor(Math.log2(Math.min(...all)));
    const last = Math.ceil(Math.log2(Math.max(...all))) + 1;
    const slots = (last - first) * 4; // four classes in each doubling
    const place = (microseconds) => (Math.log2(microseconds) - first) / (last - first);
    const blocks = Object.keys(names).filter((kind) => figures.latency[kind]).map((kind) => {
      const times = figures.latency[kind];
      const heights = new Array(slots).fill(0);
      for (const [time, count] of times) heights[Math.min(slots - 1, Math.round(place(time) * slots))] += count;
      const top = Math.max(...heights);
      const bars = heights.map((count) => make("i", { style: `height: ${count ? Math.max(3, (100 * count) / top) : 0}%` }));
      const half = duration(quantile(times, 0.5));
      const most = duration(quantile(times, 0.99));
      return make("div", {}, make("h3", {}, names[kind], make("span", {}, `${half}, 99 % within ${most}`)), make("div", { class: "ops-bars" }, ...bars));
    });
    const marks = [1, 10, 100, 1e3, 1e4, 1e5, 1e6]
      .filter((time) => place(time) > 0.04 && place(time) < 0.96)
      .map((time) => make("span", { style: `left: ${100 * place(time)}%` }, duration(time)));
    element("latency").replaceChildren(...blocks, make("div", { class: "ops-scale" }, ...marks));
  }

  function drawTables(figures) {
    const most = Math.max(1, ...figures.namespaces.map((each) => each.bytes));
    element("namespaces").replaceChildren(...figures.namespaces.map((each) => {
      const made = row([[breakable(each.name)], [whole.format(each.entries), "number"], [bytes(each.bytes), "number"]]);
      made.append(make("td", { class: "bar-column" }, make("span", { class: "bar", style: `width: ${(100 * each.bytes) / most}%` })));
      return made;
    }));
    element("sample").textContent = figures.is_sample ? "Estimated from a sample of the entries." : "";
    element("workers").replaceChildren(...figures.workers.map((each) => row([
      [String(each.pid)],
      [whole.format(each.hot_hits), "number"],
      [whole.format(each.hot_entries), "number"],
      [`${bytes(each.hot_bytes)} of\u00a0${bytes(each.hot_capacity_bytes)}`, "number may-break"],
    ])));
    const { pool, totals } = figures;
    const counts = [
      ["loads", totals.loads, "values computed by one worker for all"],
      ["lease waits", totals.load_waits, "calls that waited for another's load"],
      ["voided loads", totals.loads_voided, "not stored: the key changed meanwhile"],
      ["evicted", pool.evict, "entries given up to make room"],
      ["expired", pool.expired, "entries whose time was over"],
      ["recoveries", pool.recoveries, "parts repaired after a death in a write", true],
      ["damaged", pool.damaged, "entries whose bytes made no sense", true],
      ["lock timeouts", pool.lock_timeouts, "operations without a lock in time", true],
      ["failed reads", totals.read_failures, "answered as misses", true],
    ];
    element("counts").replaceChildren(...counts.map(([name, count, meaning, isBad]) => row([
      [name], [whole.format(count), isBad && count ? "number is-bad" : "number"], [meaning, "ops-meaning"],
    ])));
  }

  function draw(figures) {
    remember(figures);
    drawTiles(figures);
    drawChart();
    drawShares(figures);
    drawLatency(figures);
    drawTables(figures);
    updates += 1;
    document.documentElement.dataset.updates = updates;
  }

  function tell(text, isLost) {
    element("state").textContent = text;
    element("state").classList.toggle("is-lost", isLost);
  }

  // Life

  async function update() {
    if (document.visibilityState === "visible") {
      try {
        const answer = await fetch(address, { cache: "no-store" });
        const figures = await answer.json();
        if (!answer.ok) throw new Error(figures.error);
        draw(figures);
        tell("live", false);
      } catch (error) {
        tell(`no answer: ${error.message}`, true);
      }
    }
    setTimeout(update, PAUSE_MS);
  }

  const first = element("first");
  if (first) draw(JSON.parse(first.textContent));
  setTimeout(update, PAUSE_MS);
})();

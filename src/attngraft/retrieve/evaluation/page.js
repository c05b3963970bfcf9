// @ts-check
"use strict";
(() => {
  /** @typedef {{mean: number, low: number, high: number}} Interval */
  /** @typedef {{name: string, kind: string, scores: any[], curves: any[], further: Record<string, Interval>}} Row */

  const data = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("data")).textContent || "{}");
  const results = data.results, setting = results.setting;
  const COLOURS = ["#0072b2", "#5fa8d3", "#8a6d3b", "#008c5a", "#5fbf8f", "#a05a9a", "#d53c1e", "#f0803c", "#b0447a", "#e08ab0", "#966400", "#c9a227", "#6b6f1d", "#7a5cc8", "#a894e0", "#4d5560"];
  const FIRST = ["chance", "standard", "joined-centred", "mrag", "mrag-centred", "parts", "tfidf"];
  const MEASURES = setting.categories ? ["success", "category", "weighted"] : ["success"];

  /** @param {string} id @returns {any} */
  const byId = (id) => document.getElementById(id);

  /** Show what went wrong; a page that fails says so. @param {string} text */
  function fail(text) {
    byId("problem").hidden = false;
    byId("problem").textContent = text;
  }
  addEventListener("error", (event) => fail(event.message));

  // ---- State, kept in the address after "#".

  const state = { lang: "en", theme: "", measure: "success", band: "", query: 0, shown: new Set(FIRST) };
  const bands = results.groups.filter((/** @type {any} */ g) => g.is_band).map((/** @type {any} */ g) => g.name);

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    /** @param {string} key @param {string[]} known @param {string} usual */
    const one = (key, known, usual) => (known.includes(given.get(key) || "") ? String(given.get(key)) : usual);
    state.lang = one("lang", ["en", "zh"], navigator.language.startsWith("zh") ? "zh" : "en");
    state.theme = one("theme", ["light", "dark"], "");
    state.measure = one("measure", MEASURES, "success");
    state.band = one("band", bands, bands.includes("2-6") ? "2-6" : "all");
    state.query = Math.min(Math.max(1, Math.floor(Number(given.get("query")) || 1)), Math.max(1, results.examples.length)) - 1;
  }

  function writeAddress() {
    /** @type {Record<string, string>} */
    const shown = { lang: state.lang, measure: state.measure, band: state.band, query: String(state.query + 1) };
    if (state.theme) shown.theme = state.theme;
    history.replaceState(null, "", "#" + new URLSearchParams(shown));
  }

  /** Say a sentence of the table. @param {string} key @param {Record<string, any>} [given] */
  function say(key, given = {}) {
    const words = data.words[state.lang];
    if (!(key in words)) throw new Error(`no words for ${key}`);
    return words[key].replace(/\{(\w+)\}/g, (/** @type {string} */ _, /** @type {string} */ name) => String(given[name]));
  }

  /** Return the name of a row; a TREC run file has its own. @param {string} name */
  const named = (name) => (`row.${name}` in data.words[state.lang] ? say(`row.${name}`) : name);
  const group = (/** @type {string} */ name) => (name === "all" ? say("all") : name.replace(">=", "≥ "));
  const ratio = (/** @type {number} */ value) => value.toFixed(3);
  const signed = (/** @type {number} */ value) => (value <= -0.0005 ? "−" : "+") + Math.abs(value).toFixed(3);

  /** @param {string} tag @param {Record<string, any>} [given] @param {(Node | string)[]} [inside] */
  function make(tag, given = {}, inside = []) {
    const made = Object.assign(document.createElement(tag), given);
    made.append(...inside);
    return made;
  }

  /** @param {string} id @param {Record<string, any>} [given] */
  function panel(id, given = {}) {
    return make("section", { id, className: "panel" }, [make("h2", { textContent: say(id) }), make("p", { className: "says", textContent: say(`${id}.says`, given) })]);
  }

  /** Return buttons of which one is pressed. @param {string[]} values @param {string} chosen @param {(value: string) => string} text @param {(value: string) => void} press */
  function choices(values, chosen, text, press) {
    return make("div", { className: "choices" }, values.map((value) => {
      const button = make("button", { type: "button", textContent: text(value), onclick: () => { press(value); draw(); } });
      button.setAttribute("aria-pressed", String(value === chosen));
      return button;
    }));
  }

  const NS = "http://www.w3.org/2000/svg";
  /** @param {string} tag @param {Record<string, string | number>} given @param {string} [text] */
  function shape(tag, given, text = "") {
    const made = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(given)) made.setAttribute(key, String(value));
    made.textContent = text;
    return made;
  }

  /** Let a figure scroll where the window is narrower than its text can be read. @param {Element} svg */
  const wide = (svg) => make("div", { className: "scroll", tabIndex: 0 }, [svg]);

  // ---- What it came to.

  function verdicts() {
    const made = panel("verdicts", { n: setting.n });
    const list = make("ul", { className: "verdicts" });
    for (const one of results.differences.filter((/** @type {any} */ d) => data.headline.includes(`${d.row}|${d.other}`) && d.group !== "all" && d.group !== "1")) {
      const { mean, low, high } = one.success;
      const kind = low > 0 ? "better" : high < 0 ? "worse" : "open";
      list.append(make("li", {}, [
        say("verdict", { row: named(one.row), other: named(one.other), group: group(one.group) }) + " ",
        make("strong", { className: kind, textContent: `${signed(mean)} [${signed(low)}, ${signed(high)}]` }), ` ${say(kind)}`,
      ]));
    }
    made.append(list);
    for (const key of data.remarks) made.append(make("p", { className: "note", textContent: say(`remark.${key}`) }));
    return made;
  }

  // ---- The table.

  function scores() {
    const made = panel("scores", { n: setting.n, weight: setting.weight });
    made.append(choices(MEASURES, state.measure, (m) => say(`measure.${m}`), (m) => { state.measure = m; }));
    const groups = results.groups, measures = Object.keys(results.rows[0].further);
    const heads = [say("row"), ...groups.map((/** @type {any} */ g) => group(g.name)), ...measures];
    const counts = [say("queries"), ...groups.map((/** @type {any} */ g) => String(g.queries)), ...measures.map(() => "")];
    const chance = results.rows.find((/** @type {Row} */ r) => r.kind === "chance");
    const body = results.rows.map((/** @type {Row} */ row) => make("tr", { className: row.kind === "chance" ? "chance" : row.name.startsWith("mrag") ? "strong" : "" }, [
      make("th", { scope: "row", textContent: named(row.name), title: `row.${row.name}` in data.words[state.lang] ? say(`about.${row.name}`) : "" }),
      ...groups.map((/** @type {any} */ g, /** @type {number} */ at) => {
        const value = row.scores[at][state.measure];
        const under = row !== chance && state.measure !== "success" && value.mean < chance.scores[at][state.measure].mean;
        const between = g.is_band && row.kind !== "chance" ? [make("small", { textContent: `[${ratio(value.low)}, ${ratio(value.high)}]` })] : [];
        return make("td", { className: under ? "under" : "" }, [ratio(value.mean), ...between]);
      }),
      ...measures.map((name) => make("td", { textContent: row.further[name] ? ratio(row.further[name].mean) : "" })),
    ]));
    const line = (/** @type {string[]} */ texts) => make("tr", {}, texts.map((text) => make("th", { scope: "col", textContent: text })));
    made.append(make("div", { className: "scroll", tabIndex: 0 }, [make("table", {}, [make("thead", {}, [line(heads), line(counts)]), make("tbody", {}, body)])]));
    if (state.measure !== "success") made.append(make("p", { className: "note", textContent: say("under") }));
    return made;
  }

  // ---- Curves.

  function curves() {
    const made = panel("curves");
    made.append(choices(bands, state.band, (b) => say("aspects", { group: group(b) }), (b) => { state.band = b; }));
    const key = make("div", { className: "key" });
    const drawn = results.rows.map((/** @type {Row} */ row, /** @type {number} */ at) => ({ row, colour: row.kind === "chance" ? "#8a8f98" : COLOURS[(at - 1) % COLOURS.length] }));
    for (const { row, colour } of drawn) {
      const line = make("i");
      line.style.borderColor = colour;
      const button = make("button", { type: "button", onclick: () => { state.shown.has(row.name) ? state.shown.delete(row.name) : state.shown.add(row.name); draw(); } }, [line, named(row.name)]);
      button.setAttribute("aria-pressed", String(state.shown.has(row.name)));
      key.append(button);
    }
    made.append(key);
    for (const measure of MEASURES.slice(0, 2)) {
      made.append(make("h3", { textContent: say(`measure.${measure}`) }));
      made.append(wide(plot(drawn.filter(({ row }) => state.shown.has(row.name)).map(({ row, colour }) => ({
        colour, chance: row.kind === "chance", name: named(row.name),
        values: row.curves.find((/** @type {any} */ c) => c.group === state.band)[measure] })), say(`measure.${measure}`))));
    }
    return made;
  }

  /** @param {{colour: string, chance: boolean, name: string, values: number[]}[]} lines @param {string} title */
  function plot(lines, title) {
    const W = 900, H = 270, left = 40, right = 10, top = 10, bottom = 34;
    const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
    const high = Math.max(0.05, ...lines.flatMap((l) => l.values)), x = (/** @type {number} */ n) => left + ((W - left - right) * (n - 1)) / Math.max(1, setting.depth - 1);
    const y = (/** @type {number} */ v) => H - bottom - ((H - top - bottom) * v) / high;
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      svg.append(shape("path", { class: "axis", d: `M${left} ${y(share * high)}H${W - right}` }), shape("text", { x: left - 5, y: y(share * high) + 4, "text-anchor": "end" }, (share * high).toFixed(2)));
    }
    for (let n = 1; n <= setting.depth; n += n === 1 ? 4 : 5) svg.append(shape("text", { x: x(n), y: H - 18, "text-anchor": "middle" }, String(n)));
    svg.append(shape("text", { x: W / 2, y: H - 3, "text-anchor": "middle" }, say("documents")), shape("path", { class: "zero", d: `M${x(setting.n)} ${top}V${H - bottom}` }));
    for (const line of lines) {
      const one = shape("polyline", { points: line.values.map((v, i) => `${x(i + 1).toFixed(1)},${y(v).toFixed(1)}`).join(" "), fill: "none", stroke: line.colour, "stroke-width": line.chance ? 1.5 : 2.2, "stroke-dasharray": line.chance ? "5 4" : "" });
      one.append(shape("title", {}, line.name));
      svg.append(one);
    }
    return svg;
  }

  // ---- Differences.

  function differences() {
    const made = panel("differences", { n: setting.n, resamples: setting.resamples });
    made.append(choices(bands, state.band, (b) => say("aspects", { group: group(b) }), (b) => { state.band = b; }));
    const rows = results.differences.filter((/** @type {any} */ d) => d.group === state.band);
    const reach = Math.max(0.02, ...rows.flatMap((/** @type {any} */ d) => [Math.abs(d.success.low), Math.abs(d.success.high)]));
    const W = 900, step = 24, left = 330, right = 190, H = rows.length * step + 30, middle = (left + W - right) / 2;
    const x = (/** @type {number} */ v) => middle + ((W - right - left) / 2) * (v / reach);
    const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": say("differences") });
    svg.append(shape("path", { class: "zero", d: `M${x(0)} 0V${H - 22}` }), shape("text", { x: x(0), y: H - 6, "text-anchor": "middle" }, "0"), shape("text", { x: x(-reach), y: H - 6 }, signed(-reach)), shape("text", { x: x(reach), y: H - 6, "text-anchor": "end" }, signed(reach)));
    rows.forEach((/** @type {any} */ one, /** @type {number} */ at) => {
      const { mean, low, high } = one.success, y = at * step + 13;
      const colour = low > 0 ? "var(--good)" : high < 0 ? "var(--bad)" : "var(--soft)";
      svg.append(
        shape("text", { class: "label", x: left - 12, y: y + 4, "text-anchor": "end" }, say("less", { row: named(one.row), other: named(one.other) })),
        shape("path", { d: `M${x(low)} ${y}H${x(high)}`, stroke: colour, "stroke-width": 2 }), shape("circle", { cx: x(mean), cy: y, r: 4, fill: colour }),
        shape("text", { class: "label", x: W - right + 12, y: y + 4 }, `${signed(mean)} [${signed(low)}, ${signed(high)}]`));
    });
    made.append(wide(svg));
    return made;
  }

  // ---- Importance of heads.

  function importance() {
    const made = panel("importance");
    const values = /** @type {number[]} */ (results.importance), high = Math.max(...values, 1e-9), total = values.reduce((a, b) => a + b, 0) || 1;
    const W = 900, H = 190, step = (W - 20) / values.length;
    const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": say("importance") });
    values.forEach((value, head) => {
      const tall = (130 * value) / high, x = 10 + head * step;
      const bar = shape("rect", { x: x + step * 0.12, y: 150 - tall, width: step * 0.76, height: Math.max(0.5, tall), fill: "var(--mark)" });
      bar.append(shape("title", {}, say("head.share", { head, value: value.toPrecision(3), share: (100 * value / total).toFixed(1) })));
      svg.append(bar, shape("text", { x: x + step / 2, y: 166, "text-anchor": "middle" }, String(head)));
      if (values.length <= 24) svg.append(shape("text", { class: "label", x: x + step / 2, y: 145 - tall, "text-anchor": "middle" }, value.toPrecision(2)));
    });
    svg.append(shape("text", { x: W / 2, y: 184, "text-anchor": "middle" }, say("head")));
    made.append(wide(svg));
    return made;
  }

  // ---- Queries.

  function examples() {
    const made = panel("examples");
    const example = results.examples[state.query];
    const chooser = make("select", { id: "query" }, results.examples.map((/** @type {any} */ one, /** @type {number} */ at) => make("option", { selected: at === state.query, textContent: say("query", { query: one.query, aspects: one.wanted.length }) })));
    chooser.setAttribute("aria-label", say("examples"));
    chooser.addEventListener("change", () => { state.query = chooser.selectedIndex; draw(); });
    made.append(make("div", { className: "choices" }, [chooser]), make("div", { className: "text", textContent: example.text, tabIndex: 0 }));
    made.append(make("p", { className: "note", textContent: `${say("wanted")} ${example.wanted.map((/** @type {any} */ w) => w.title).join(" · ")}` }));
    made.append(make("div", { className: "cards" }, Object.entries(example.found).map(([name, found]) => make("div", { className: "card" }, [
      make("h3", { textContent: say("hits", { row: named(name), hits: /** @type {any[]} */ (found).filter((f) => f.relevant).length, of: example.wanted.length }) }),
      make("ol", {}, /** @type {any[]} */ (found).map((one) => make("li", { className: one.relevant ? "hit" : "" }, [
        make("span", { className: "name", textContent: one.title }), one.category ? ` (${one.category})` : "",
        ...(one.heads.length ? [make("span", { className: "votes", textContent: say("votes", { heads: one.heads.map((/** @type {any} */ v) => `${v.head}${say("at")}${v.rank}`).join(", ") }) })] : []),
      ]))),
    ]))));
    return made;
  }

  // ---- How it was measured.

  function methods() {
    const made = panel("methods", { resamples: setting.resamples, depth: setting.depth });
    /** @type {[string, any][]} */
    const rows = [["benchmark", setting.benchmark], ["corpus", say("corpus.says", { documents: setting.documents, categories: setting.categories })], ["asked", say("asked.says", { queries: setting.queries, unjudged: setting.unjudged })],
      ["keys", say("keys.says", { heads: setting.heads, dim: setting.dim, width: setting.width })]];
    const list = make("dl", {}, rows.flatMap(([key, value]) => [make("dt", { textContent: say(key) }), make("dd", { textContent: String(value) })]));
    for (const [key, value] of Object.entries(setting.index)) list.append(make("dt", { textContent: key }), make("dd", { textContent: typeof value === "string" ? value : JSON.stringify(value) }));
    list.append(make("dt", { textContent: "attngraft" }), make("dd", { textContent: setting.version }));
    made.append(list, make("h3", { textContent: say("rows") }), make("dl", {}, results.rows.filter((/** @type {Row} */ r) => r.kind !== "run").flatMap((/** @type {Row} */ r) => [make("dt", { textContent: named(r.name) }), make("dd", { textContent: say(`about.${r.name}`) })])));
    return made;
  }

  // ---- All of it.

  let turn = 0;

  function draw() {
    const focus = document.activeElement instanceof HTMLElement ? [document.activeElement.closest("section")?.id, document.activeElement.textContent] : [];
    document.documentElement.lang = state.lang === "zh" ? "zh-CN" : "en";
    if (state.theme) document.documentElement.dataset.theme = state.theme;
    byId("title").textContent = say("title", { benchmark: setting.benchmark });
    byId("language").textContent = say("language");
    byId("theme").textContent = say("theme");
    byId("footer").textContent = say("footer");
    writeAddress();
    const made = [verdicts(), scores(), curves(), differences()];
    if (results.importance.length) made.push(importance());
    if (results.examples.length) made.push(examples());
    byId("panels").replaceChildren(...made, methods());
    for (const button of document.querySelectorAll(`section#${focus[0] || "none"} button`)) if (button instanceof HTMLElement && button.textContent === focus[1]) button.focus();
    document.body.dataset.ready = String(++turn);
  }

  byId("language").addEventListener("click", () => { state.lang = state.lang === "en" ? "zh" : "en"; draw(); });
  byId("theme").addEventListener("click", () => {
    const dark = state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    state.theme = dark ? "light" : "dark";
    draw();
  });
  addEventListener("hashchange", () => { readAddress(); draw(); });
  readAddress();
  draw();
})();

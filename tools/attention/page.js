// @ts-check
"use strict";
(() => {
  /** @typedef {{x: Float32Array, image: string, cue: number[], objects: {cell: number, label: number, box: number[], scores: number[][][], copied: number[], byGamma: number[][]}[]}} Scene */
  /** @typedef {"query" | "key"} Spot */

  const given = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("data")).textContent || "{}");
  const { side, heads, channels: C, words, palette } = given, N = side * side, d = C / heads, pixels = given.pixels;
  const FORMS = /** @type {const} */ (["relative", "absolute", "copied"]);
  const ARROWS = /** @type {Record<string, number[]>} */ ({ ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] });

  /** @param {string} id @returns {any} */
  const byId = (id) => document.getElementById(id);

  /** Show what went wrong; a page that fails says so. @param {string} text */
  function fail(text) {
    byId("problem").hidden = false;
    byId("problem").textContent = text;
  }
  addEventListener("error", (event) => fail(event.message));
  addEventListener("unhandledrejection", (event) => fail(String(event.reason)));

  /** @param {string} text Numbers of 32 bits in base64. */
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const weights = { channels: C, heads, side, qkv: floats(given.qkv), height: floats(given.height), width: floats(given.width) };
  const scenes = /** @type {Scene[]} */ (given.scenes.map((/** @type {any} */ s) => ({ ...s, x: floats(s.x) })));

  /** Say a sentence of the table. @param {string} key @param {Record<string, any>} [values] */
  function say(key, values = {}) {
    if (!(key in words)) throw new Error(`no words for ${key}`);
    return words[key].replace(/\{(\w+)\}/g, (/** @type {string} */ _, /** @type {string} */ name) => String(values[name]));
  }

  // ---- State, kept in the address after "#".

  const state = {
    image: 0, head: given.head, query: scenes[0].objects[0].cell, key: -1, on: (1 << heads) - 1, positions: 1, channel: 0,
    scale: d ** -0.5, dim: 6, form: "copied", scaled: 0, shift: 0, read: 1, gamma: 1, pixels: 640, stride: 32, width: 256, split: 8, theme: "",
  };
  const START = { ...state };
  const LEAST = { image: 0, head: 0, query: 0, key: -1, on: 0, positions: 0, channel: 0, scale: 0, dim: 2, scaled: 0, shift: -2, read: 1, gamma: 0, pixels: 64, stride: 4, width: 16, split: 1 };
  const MOST = { image: scenes.length - 1, head: heads - 1, query: N - 1, key: N - 1, on: (1 << heads) - 1, positions: 1, channel: d - 1, scale: 2, dim: 9, scaled: 1, shift: 2, read: side, gamma: 1, pixels: 1920, stride: 64, width: 2048, split: 64 };
  const WHOLE = Object.keys(LEAST).filter((name) => !["scale", "shift", "gamma"].includes(name));

  function readAddress() {
    Object.assign(state, START);
    for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
      const value = Number(text);
      if (name === "form" && FORMS.some((form) => form === text)) state.form = text;
      else if (name === "theme" && ["light", "dark"].includes(text)) state.theme = text;
      else if (name in LEAST && text && Number.isFinite(value) && (!WHOLE.includes(name) || Number.isInteger(value))) {
        const key = /** @type {keyof typeof LEAST} */ (name);
        state[key] = Math.min(Math.max(value, LEAST[key]), MOST[key]);
      }
    }
  }

  function writeAddress() {
    const changed = Object.entries(state).filter(([name, value]) => value !== START[/** @type {keyof typeof START} */ (name)]);
    const text = String(new URLSearchParams(changed.map(([name, value]) => [name, typeof value === "number" ? String(+value.toFixed(4)) : value])));
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    byId("other").hash = text;
  }

  // ---- What the panels draw.

  const scene = () => scenes[state.image];
  /** @type {Map<string, ReturnType<typeof attention.vectors>>} */
  const known = new Map();
  /** @param {number} head */
  function vectors(head) {
    const name = `${state.image} ${head}`;
    let found = known.get(name);
    if (!found) known.set(name, (found = attention.vectors(weights, scene().x, head)));
    return found;
  }
  const form = () => /** @type {"relative" | "none"} */ (state.positions ? "relative" : "none");
  /** @param {number} [head] */
  const row = (head = state.head) => attention.row(weights, vectors(head), state.query, form());
  /** @param {Float64Array} values */
  const strongest = (values) => values.indexOf(Math.max(...values));
  const key = () => (state.key < 0 ? strongest(row().weights) : state.key);
  /** @param {number} cell */
  const place = (cell) => ({ row: Math.floor(cell / side) + 1, column: (cell % side) + 1 });

  // ---- Elements.

  /** @param {string} tag @param {Record<string, any>} [properties] @param {(Node | string)[]} [children] @returns {any} */
  function make(tag, properties = {}, children = []) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (/^(aria-|data-|role$|for$)/.test(name)) made.setAttribute(name, String(value));
      else Object.assign(made, { [name]: value });
    }
    made.append(...children);
    return made;
  }

  /** @param {string} tag @param {Record<string, string | number>} attributes @param {(Node | string)[]} [children] */
  function shape(tag, attributes, children = []) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    made.append(...children);
    return made;
  }

  /** @param {number} value */
  const figures = (value) => (value === 0 ? "0" : Math.abs(value) < 0.001 || Math.abs(value) >= 1e5 ? value.toExponential(1) : String(+value.toPrecision(3)));
  /** @param {number} value */
  const signed = (value) => (value > 0 ? "+" : value < 0 ? "\u2212" : "") + figures(Math.abs(value));

  /** Return the colour of a share, from -1 to 1. @param {number} share @returns {number[]} */
  function colour(share) {
    const stops = share < 0 ? palette.negative : palette.positive;
    const at = Math.min(1, Math.abs(share)) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return [0, 1, 2].map((c) => stops[low][c] + (stops[low + 1][c] - stops[low][c]) * (at - low));
  }

  /** @type {Map<number, Promise<{photo: HTMLImageElement, grey: HTMLCanvasElement}>>} */
  const photos = new Map();
  /** Return a scene's image, in colour and in grey. @param {number} number */
  function photo(number) {
    const waiting = photos.get(number);
    if (waiting) return waiting;
    const loading = (async () => {
      const shown = new Image();
      shown.src = scenes[number].image;
      await shown.decode();
      const grey = make("canvas", { width: pixels, height: pixels }), context = pen(grey);
      context.drawImage(shown, 0, 0);
      const all = context.getImageData(0, 0, pixels, pixels);
      for (let i = 0; i < all.data.length; i += 4) all.data.fill(0.75 * (0.299 * all.data[i] + 0.587 * all.data[i + 1] + 0.114 * all.data[i + 2]), i, i + 3);
      context.putImageData(all, 0, 0);
      return { photo: shown, grey };
    })();
    photos.set(number, loading);
    return loading;
  }

  /** @param {HTMLCanvasElement} canvas */
  function pen(canvas) {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("this browser gives no canvas");
    return context;
  }

  const DRAWN = 288;

  /** @typedef {{values?: ArrayLike<number>, most?: number, signed?: boolean, over?: boolean, text?: string, frame?: boolean}} Picture */

  /** Draw values of the cells, or the image itself. @param {HTMLCanvasElement} canvas @param {{photo: HTMLImageElement, grey: HTMLCanvasElement}} of @param {Picture} what */
  function paint(canvas, of, { values, most = 1, over = false, frame = false }) {
    Object.assign(canvas, { width: DRAWN, height: DRAWN });
    const context = pen(canvas), unit = DRAWN / pixels;
    context.drawImage(values ? of.grey : of.photo, 0, 0, DRAWN, DRAWN);
    if (values) {
      const heat = new ImageData(side, side);
      for (let i = 0; i < N; i++) {
        const share = most ? values[i] / most : 0;
        heat.data.set(Number.isNaN(share) ? [0, 0, 0, 0] : [...colour(share), 255 * (over ? 0.35 + 0.6 * Math.sqrt(Math.min(1, Math.abs(share))) : 0.94)], 4 * i);
      }
      const small = make("canvas", { width: side, height: side });
      pen(small).putImageData(heat, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, DRAWN, DRAWN);
    }
    context.strokeStyle = values ? "rgba(255,255,255,.75)" : "#fff";
    context.lineWidth = 1.5;
    for (const [left, top, right, bottom] of [scene().cue, ...scene().objects.map((o) => o.box)]) context.strokeRect(left * unit, top * unit, (right - left) * unit, (bottom - top) * unit);
    if (frame) {
      const cell = DRAWN / side, half = given.reach * unit, x = ((state.query % side) + 0.5) * cell, y = (Math.floor(state.query / side) + 0.5) * cell;
      context.setLineDash([6, 4]);
      context.strokeStyle = "#ffd33d";
      context.lineWidth = 2;
      context.strokeRect(x - half, y - half, 2 * half, 2 * half);
    }
    canvas.dataset.drawn = "1";
  }

  /** Draw the colours between the ends of a scale. @param {HTMLElement} box @param {number} most @param {boolean} both */
  function scaleBar(box, most, both) {
    const canvas = make("canvas", { width: 120, height: 1, "aria-hidden": "true" }), line = new ImageData(120, 1);
    for (let i = 0; i < 120; i++) line.data.set([...colour(both ? i / 59.5 - 1 : i / 119), 255], 4 * i);
    pen(canvas).putImageData(line, 0, 0);
    box.replaceChildren(both ? signed(-most) : "0", canvas, figures(most));
  }

  /**
   * A map of the cells with the marks of the query and, where asked, of the key.
   * @param {string} title @param {{moves?: Spot, key?: boolean}} [options] Which mark the pointer and the arrow keys move.
   */
  function field(title, { moves, key: hasKey = moves === "key" } = {}) {
    const canvas = make("canvas"), caption = make("figcaption"), bar = make("div", { className: "scale" });
    const spots = { query: make("div", { className: "spot" }, [make("b", { textContent: "i" })]), key: make("div", { className: "spot key", hidden: !hasKey }, [make("b", { textContent: "j" })]) };
    const box = make("div", { className: moves ? "field pick" : "field", role: moves ? "group" : "img" }, [canvas, spots.query, spots.key]);
    if (moves) {
      box.tabIndex = 0;
      spots[moves].classList.add("moves");
      listenTo(box, moves);
    }
    const name = make("strong", { textContent: title }), note = make("span");
    caption.append(name, note);
    /** @param {Picture} what */
    const draw = async (what) => {
      const shown = await photo(state.image);
      paint(canvas, shown, what);
      bar.hidden = !what.values;
      if (what.values) scaleBar(bar, what.most ?? 1, Boolean(what.signed));
      note.textContent = what.text || "";
      box.setAttribute("aria-label", [title, what.text, moves ? say(`moves.${moves}`) : ""].filter(Boolean).join(". "));
      for (const [which, cell] of /** @type {[Spot, number][]} */ ([["query", state.query], ["key", key()]])) {
        const mark = spots[which], y = Math.floor(cell / side), x = cell % side;
        Object.assign(mark.style, { left: `${(100 * x) / side}%`, top: `${(100 * y) / side}%` });
        mark.classList.toggle("left", x > side - 3);
        mark.classList.toggle("low", y < 2);
      }
    };
    return { figure: make("figure", {}, [box, bar, caption]), draw, rename: (/** @type {string} */ text) => { title = name.textContent = text; } };
  }

  /** Move a mark by pointer and arrow keys. @param {HTMLElement} box @param {Spot} which */
  function listenTo(box, which) {
    let held = false;
    /** @param {PointerEvent | MouseEvent} event */
    const at = (event) => {
      const edge = box.getBoundingClientRect(), limit = (/** @type {number} */ v) => Math.min(Math.max(Math.floor(v * side), 0), side - 1);
      return limit((event.clientY - edge.top) / edge.height) * side + limit((event.clientX - edge.left) / edge.width);
    };
    box.addEventListener("pointerdown", (event) => {
      held = event.pointerType === "mouse" ? event.button === 0 : event.target !== event.currentTarget && /** @type {HTMLElement} */ (event.target).classList.contains("moves");
      if (held) set({ [which]: at(event) });
    });
    addEventListener("pointermove", (event) => { if (held) set({ [which]: at(event) }); }); // also outside of the map
    for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => (held = false));
    box.addEventListener("click", (event) => set({ [which]: at(event) }, true)); // a tap, with a finger on a page that scrolls
    box.addEventListener("keydown", (event) => {
      const move = ARROWS[event.key];
      if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const from = which === "query" ? state.query : key(), limit = (/** @type {number} */ v) => Math.min(Math.max(v, 0), side - 1);
      set({ [which]: limit(Math.floor(from / side) + move[0]) * side + limit((from % side) + move[1]) }, true);
    });
  }

  /**
   * Draw bars up and down from zero.
   * @param {HTMLElement} box @param {ArrayLike<number>} values @param {{text: string, most?: number, mark?: number, faint?: (i: number) => boolean, from?: number, to?: number}} options
   */
  function bars(box, values, { text, most, mark = -1, faint = () => false }) {
    const all = Array.from(values), high = most ?? Math.max(...all.map(Math.abs), 1e-12), below = all.some((v) => v < 0);
    const zero = below ? 42 : 80, span = below ? 40 : 76, step = 480 / all.length;
    const drawn = all.map((v, i) => {
      const tall = Math.min(1, Math.abs(v) / high) * span;
      return shape("rect", { class: `bar${v < 0 ? " under" : ""}${faint(i) ? " faint" : ""}`, x: (i * step + step * 0.1).toFixed(1), width: (step * 0.8).toFixed(1), y: (v < 0 ? zero : zero - tall).toFixed(1), height: Math.max(tall, 0.5).toFixed(1) });
    });
    const frame = mark >= 0 ? [shape("rect", { class: "mark", x: mark * step, y: 1, width: step, height: 82 })] : [];
    const axis = shape("path", { class: "axis", d: `M0 ${zero}H480` });
    box.replaceChildren(make("div", { className: "name", textContent: text }), shape("svg", { viewBox: "0 0 480 84", preserveAspectRatio: "none", role: "img", "aria-label": `${text}: ${all.slice(0, 24).map(figures).join(", ")}` }, [axis, ...drawn, ...frame]));
  }

  /** @param {string} name @param {{min: number, max: number, step: number | "any", text?: string}} range @param {(value: number) => string} print */
  function slider(name, range, print) {
    const input = make("input", { type: "range", min: range.min, max: range.max, step: range.step, id: `set-${name}` }), output = make("output", { "for": `set-${name}` });
    input.addEventListener("input", () => set({ [name]: Number(input.value) }));
    const label = make("label", { "for": `set-${name}`, textContent: range.text || say(`set.${name}`) });
    return {
      element: make("div", { className: "slider" }, [label, input, output]),
      update: () => {
        const value = /** @type {number} */ (state[/** @type {keyof typeof LEAST} */ (name)]);
        input.value = String(value);
        output.textContent = print(value);
        input.setAttribute("aria-valuetext", output.textContent);
      },
    };
  }

  /** @param {string} text @param {() => boolean} isOn @param {() => void} press */
  function choice(text, isOn, press) {
    const element = make("button", { type: "button", textContent: text, onclick: press });
    return { element, update: () => element.setAttribute("aria-pressed", String(isOn())) };
  }

  /** @param {string} text @param {() => boolean} isOn @param {(on: boolean) => void} change */
  function check(text, isOn, change) {
    const input = make("input", { type: "checkbox" });
    input.addEventListener("change", () => change(input.checked));
    return { element: make("label", { className: "check" }, [input, text]), update: () => (input.checked = isOn()) };
  }

  /** @param {HTMLElement} table @param {string} caption @param {string[]} head @param {(string | number)[][]} lines */
  function fill(table, caption, head, lines) {
    const cells = (/** @type {string} */ tag, /** @type {(string | number)[]} */ line) => make("tr", {}, line.map((text, i) => make(tag, { textContent: String(text), className: i ? "number" : "" })));
    table.replaceChildren(make("caption", { textContent: caption }), make("thead", {}, [cells("th", head)]), make("tbody", {}, lines.map((line) => cells("td", line))));
  }

  /** Make lines of class scores, a line for each object. @param {HTMLElement} table @param {string} caption @param {string[]} names @param {(object: Scene["objects"][number]) => number[][]} columns Pairs of red and green. */
  function fillScores(table, caption, names, columns) {
    const lines = scene().objects.map((o, i) => [say("object", { number: i + 1, ...place(o.cell) }), ...columns(o).flatMap((pair) => pair.map((p) => p.toFixed(2)))]);
    fill(table, caption, ["", ...names.flatMap((name) => [say("red", { name }), say("green", { name })])], lines);
  }

  const scroll = (/** @type {HTMLElement} */ table) => make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": say("table") }, [table]);
  const maps = (/** @type {{figure: HTMLElement}[]} */ fields, name = "") => make("div", { className: `maps ${name}` }, fields.map((f) => f.figure));
  const lines = () => make("p", { className: "figures" });
  /** @param {ArrayLike<number>} values */
  const size = (values) => Math.max(...Array.from(values, Math.abs));
  /** @param {ArrayLike<number>} values */
  const deviation = (values) => {
    const all = Array.from(values), mean = all.reduce((a, b) => a + b, 0) / all.length;
    return Math.sqrt(all.reduce((sum, v) => sum + (v - mean) ** 2, 0) / all.length);
  };
  /** @param {Float64Array} values @param {number} by */
  const times = (values, by) => values.map((v) => v * by);
  /** @param {Float64Array} a */
  const most = (a) => say("most", { value: figures(Math.max(...a)), ...place(strongest(a)) });

  // ---- The panels: each is built once and returns how it is drawn again.

  /** @type {Record<string, (box: HTMLElement) => () => void | Promise<any>>} */
  const panels = {
    scene(box) {
      const image = field(say("image"), { moves: "query" }), mixed = field("");
      const text = lines();
      box.append(make("div", { className: "split" }, [maps([image, mixed]), text]));
      return () => {
        const found = row(), cell = strongest(found.weights);
        mixed.rename(say("row", { head: state.head }));
        text.textContent = say("scene.says", { ...place(state.query), head: state.head, weight: figures(found.weights[cell]), toRow: place(cell).row, toColumn: place(cell).column, even: figures(1 / N) });
        return Promise.all([image.draw({ frame: true, text: say("frame", { pixels: given.reach }) }), mixed.draw({ values: found.weights, most: Math.max(...found.weights), over: true, text: most(found.weights) })]);
      };
    },

    vectors(box) {
      const image = field(say("image"), { moves: "query", key: true }), near = field("q\u1d62 \u00b7 k\u2c7c", { moves: "key" });
      const [q, k, product] = [0, 1, 2].map(() => make("div", { className: "bars" })), text = lines();
      box.append(make("div", { className: "split" }, [maps([image, near]), make("div", {}, [q, k, product, text])]));
      return () => {
        const found = vectors(state.head), j = key(), values = attention.content(found, state.query);
        const [qi, kj] = [attention.column(found.q, state.query, N), attention.column(found.k, j, N)];
        const high = Math.max(size(qi), size(kj));
        bars(q, qi, { text: say("q.bars", { ...place(state.query), d }), most: high });
        bars(k, kj, { text: say("k.bars", { ...place(j), d }), most: high });
        bars(product, qi.map((v, c) => v * kj[c]), { text: say("qk.bars") });
        text.textContent = say("vectors.says", { sum: signed(values[j]) });
        return Promise.all([image.draw({ text: "" }), near.draw({ values, most: size(values), signed: true, text: say("key.at", place(j)) })]);
      };
    },

    softmax(box) {
      const near = field(say("logits.content"), { moves: "query" }), mixed = field(say("weights"));
      const table = make("table");
      box.append(make("div", { className: "split" }, [maps([near, mixed]), scroll(table)]));
      return () => {
        const { logits, weights: found } = attention.row(weights, vectors(state.head), state.query, "none"), high = Math.max(...logits);
        const order = Array.from(found.keys()).sort((a, b) => found[b] - found[a]).slice(0, 5);
        const rest = 1 - order.reduce((sum, j) => sum + found[j], 0);
        const shown = order.map((j) => [say("cell", place(j)), logits[j].toFixed(2), Math.exp(logits[j] - high).toFixed(3), found[j].toFixed(4)]);
        fill(table, say("five"), ["", say("logit"), say("power"), say("weight")], [...shown, [say("rest", { count: N - 5 }), "", "", rest.toFixed(4)]]);
        return Promise.all([near.draw({ values: logits, most: size(logits), signed: true }), mixed.draw({ values: found, most: Math.max(...found), over: true, text: most(found) })]);
      };
    },

    scale(box) {
      const set1 = slider("scale", { min: 0, max: 2, step: 0.01 }, (v) => v.toFixed(2));
      const presets = [["0", 0], [`1/\u221a${d} = ${d ** -0.5}`, d ** -0.5], ["1", 1]].map(([text, value]) => choice(String(text), () => Math.abs(state.scale - Number(value)) < 0.005, () => set({ scale: Number(value) }, true)));
      const mixed = field(say("weights"), { moves: "query" }), sorted = make("div", { className: "bars" }), text = lines();
      box.append(set1.element, make("div", { className: "choices" }, presets.map((p) => p.element)), make("div", { className: "split" }, [maps([mixed], "one"), make("div", {}, [sorted, text])]));
      return () => {
        set1.update();
        presets.forEach((p) => p.update());
        const found = attention.row(weights, vectors(state.head), state.query, form(), state.scale), order = [...found.weights].sort((a, b) => b - a);
        bars(sorted, order.slice(0, 24), { text: say("sorted"), most: 1 });
        text.textContent = say("scale.says", { sd: figures(deviation(found.logits)), most: order[0].toFixed(3), cells: attention.spread(found.weights).toFixed(1), slope: (1 - order.reduce((s, a) => s + a * a, 0)).toFixed(3) });
        return mixed.draw({ values: found.weights, most: Math.max(...found.weights), over: true, text: most(found.weights) });
      };
    },

    random(box) {
      const dim = slider("dim", { min: 2, max: 9, step: 1 }, (v) => String(2 ** v));
      const [plain, divided] = [make("div", { className: "bars" }), make("div", { className: "bars" })], table = make("table");
      box.append(dim.element, make("div", { className: "split" }, [make("div", {}, [plain, divided]), scroll(table)]));
      return () => {
        dim.update();
        const draw = attention.normal(7), D = 2 ** state.dim, q = Float64Array.from({ length: D }, draw);
        const logits = Float64Array.from({ length: N }, () => q.reduce((sum, v) => sum + v * draw(), 0));
        const lines = [1, D ** -0.5].map((scale, n) => {
          const found = times(logits, scale), a = attention.softmax(found);
          bars(n ? divided : plain, [...a].sort((x, y) => y - x).slice(0, 24), { text: say(n ? "random.divided" : "random.plain", { d: D }), most: 1 });
          return [n ? "q\u00b7k/\u221ad" : "q\u00b7k", figures(deviation(found)), Math.max(...a).toFixed(3), attention.spread(a).toFixed(1)];
        });
        fill(table, say("random.table", { d: D, count: N }), ["", say("sd"), say("largest"), say("cells")], lines);
      };
    },

    mix(box) {
      const set1 = slider("channel", { min: 0, max: d - 1, step: 1 }, (v) => String(v + 1));
      const fields = [field("a\u1d62\u2c7c", { moves: "query" }), field(""), field("")], out = make("div", { className: "bars" }), text = lines();
      box.append(set1.element, maps(fields), out, text);
      return () => {
        set1.update();
        const found = vectors(state.head), a = row().weights, c = state.channel, v = found.v.subarray(c * N, (c + 1) * N), product = a.map((w, j) => w * v[j]);
        const o = attention.mix(a, found);
        fields[1].rename(say("value", { channel: c + 1 }));
        fields[2].rename(say("product", { channel: c + 1 }));
        bars(out, o, { text: say("out", { d }), mark: c });
        text.textContent = say("mix.says", { channel: c + 1, sum: signed(o[c]), ...place(state.query) });
        return Promise.all([
          fields[0].draw({ values: a, most: Math.max(...a), over: true, text: most(a) }), fields[1].draw({ values: v, most: size(v), signed: true }),
          fields[2].draw({ values: product, most: size(product), signed: true, text: say("sum", { value: signed(o[c]) }) })]);
      };
    },

    heads(box) {
      const fields = Array.from({ length: heads }, (_, h) => field(say("head", { head: h }), { moves: "query" }));
      const checks = fields.map((f, h) => {
        const made = check(say("on"), () => Boolean((state.on >> h) & 1), () => set({ on: state.on ^ (1 << h) }, true));
        f.figure.append(made.element);
        return made;
      });
      const out = make("div", { className: "bars" }), table = make("table"), text = lines();
      box.append(maps(fields), out, text, scroll(table));
      return () => {
        checks.forEach((c) => c.update());
        const found = fields.map((_, h) => row(h).weights), high = Math.max(...found.map((a) => Math.max(...a)));
        const is = (/** @type {number} */ h) => (state.on >> h) & 1;
        const mixed = found.flatMap((a, h) => [...attention.mix(a, vectors(h))].map((v) => (is(h) ? v : 0)));
        bars(out, mixed, { text: say("concatenated", { channels: C, heads, d }), faint: (i) => Math.floor(i / d) % 2 === 1 });
        const names = fields.map((_, h) => h).filter(is);
        text.textContent = say("heads.says", { heads: names.length ? names.join(", ") : say("none") });
        fillScores(table, say("torch"), [say("all"), say("chosen")], (o) => [o.scores[0][(1 << heads) - 1], o.scores[state.positions ? 0 : 1][state.on]]);
        return Promise.all(fields.map((f, h) => {
          f.figure.classList.toggle("off", !is(h));
          return f.draw({ values: found[h], most: high, over: true, text: most(found[h]) });
        }));
      };
    },

    positions(box) {
      const switched = check(say("set.positions"), () => Boolean(state.positions), (on) => set({ positions: on ? 1 : 0 }, true));
      const fields = ["content.divided", "position.divided", "total", "weights"].map((name, i) => field(say(name), i === 1 || i === 3 ? { moves: "query" } : {}));
      const [down, across] = [make("div", { className: "bars" }), make("div", { className: "bars" })], text = lines(), table = make("table");
      box.append(switched.element, maps(fields), make("div", { className: "split" }, [make("div", {}, [down, across]), make("div", {}, [text, scroll(table)])]));
      return () => {
        switched.update();
        const found = vectors(state.head), scale = d ** -0.5, q = attention.column(found.q, state.query, N), y = Math.floor(state.query / side), x = state.query % side;
        const near = times(attention.content(found, state.query), scale), placed = times(attention.position(weights, found, state.query, "relative"), scale), a = row().weights;
        const total = near.map((v, j) => v + (state.positions ? placed[j] : 0)), high = Math.max(size(near), size(placed), size(total));
        const other = attention.softmax(near), sum = near.map((v, j) => v + placed[j]), moved = attention.softmax(sum).reduce((s, v, j) => s + Math.abs(v - other[j]), 0) / 2;
        const outside = (/** @type {number} */ at) => (/** @type {number} */ o) => o - side + 1 + at < 0 || o - side + 1 + at >= side;
        bars(down, times(attention.reach(q, weights.height), scale), { text: say("down", { least: signed(1 - side), most: signed(side - 1) }), faint: outside(y) });
        bars(across, times(attention.reach(q, weights.width), scale), { text: say("across", { least: signed(1 - side), most: signed(side - 1) }), faint: outside(x) });
        text.textContent = say("positions.says", { content: figures(deviation(near)), position: figures(deviation(placed)), moved: (100 * moved).toFixed(1) });
        fillScores(table, say("torch"), [say("with"), say("without")], (o) => [o.scores[0][(1 << heads) - 1], o.scores[1][(1 << heads) - 1]]);
        fields[1].figure.classList.toggle("off", !state.positions);
        return Promise.all([
          fields[0].draw({ values: near, most: high, signed: true }), fields[1].draw({ values: placed, most: size(placed), signed: true, text: say("own.scale") }),
          fields[2].draw({ values: total, most: high, signed: true }), fields[3].draw({ values: a, most: Math.max(...a), over: true, text: most(a) })]);
      };
    },

    copied(box) {
      const forms = FORMS.map((name) => choice(say(`form.${name}`), () => state.form === name, () => set({ form: name }, true)));
      const scaled = check(say("set.scaled"), () => Boolean(state.scaled), (on) => set({ scaled: on ? 1 : 0 }, true));
      const shift = slider("shift", { min: -2, max: 2, step: 0.05 }, signed);
      const fields = ["paper.position", "other.position", "paper.row", "other.row"].map((name, i) => field(say(name), i < 2 ? { moves: "query" } : {})), table = make("table"), scores = make("table");
      box.append(make("div", { className: "choices", role: "group", "aria-label": say("set.form") }, [...forms.map((f) => f.element), scaled.element]), maps(fields), shift.element, scroll(table), scroll(scores));
      return () => {
        [...forms, scaled, shift].forEach((one) => one.update());
        const found = vectors(state.head), i = state.query, kind = /** @type {"relative" | "absolute" | "copied"} */ (state.form), by = state.scaled ? d ** -0.5 : 1, own = d ** -0.5;
        const paper = attention.row(weights, found, i, "relative", own, state.shift), other = attention.row(weights, found, i, kind, by, state.shift);
        const before = [attention.row(weights, found, i, "relative", own).weights, attention.row(weights, found, i, kind, by).weights];
        const change = [paper, other].map((r, n) => r.weights.reduce((high, v, j) => Math.max(high, Math.abs(v - before[n][j])), 0));
        /** Return the largest change of a weight of any cell. @param {"relative" | "absolute" | "copied"} kind @param {number} scale */
        const farthest = (kind, scale) => {
          let high = 0;
          for (let n = 0; state.shift && n < N; n++) {
            const [before, after] = [0, state.shift].map((shift) => attention.row(weights, found, n, kind, scale, shift).weights);
            for (let j = 0; j < N; j++) high = Math.max(high, Math.abs(after[j] - before[j]));
          }
          return high;
        };
        const apart = paper.weights.reduce((sum, v, j) => sum + Math.abs(v - other.weights[j]), 0) / 2;
        const placed = times(paper.position, own), another = times(other.position, by);
        fill(table, say("copied.table", { moved: (100 * apart).toFixed(1) }), ["", say("largest"), say("cells"), say("change", { shift: signed(state.shift) }), say("change.all")], [paper, other].map((r, n) => [
          n ? say("other") : say("paper"), Math.max(...r.weights).toFixed(3), attention.spread(r.weights).toFixed(1), change[n].toFixed(3), farthest(n ? kind : "relative", n ? by : own).toFixed(3)]));
        fillScores(scores, say("torch.copied"), [say("paper"), say("copy")], (o) => [o.scores[0][(1 << heads) - 1], o.copied]);
        const high = Math.max(...paper.weights, ...other.weights);
        return Promise.all([
          fields[0].draw({ values: placed, most: size(placed), signed: true, text: say("own.scale") }), fields[1].draw({ values: another, most: size(another), signed: true, text: say("own.scale") }),
          fields[2].draw({ values: paper.weights, most: high, over: true, text: most(paper.weights) }), fields[3].draw({ values: other.weights, most: high, over: true, text: most(other.weights) })]);
      };
    },

    online(box) {
      const set1 = slider("read", { min: 1, max: side, step: 1 }, (v) => say("of", { part: v, whole: side }));
      const sofar = field(say("so.far"), { moves: "query" }), [now, end] = [make("div", { className: "bars" }), make("div", { className: "bars" })], text = lines();
      box.append(set1.element, make("div", { className: "split" }, [maps([sofar], "one"), make("div", {}, [now, end, text])]));
      return () => {
        set1.update();
        const found = vectors(state.head), { logits, weights: a } = row(), exact = attention.mix(a, found);
        const { most: high, total, out } = attention.online(logits, found, state.read, side), mixed = times(out, 1 / total);
        const apart = mixed.reduce((m, v, c) => Math.max(m, Math.abs(v - exact[c])), 0), span = Math.max(size(mixed), size(exact));
        const shown = logits.map((l, j) => (j < state.read * side ? Math.exp(l - high) / total : NaN));
        bars(now, mixed, { text: say("now"), most: span });
        bars(end, exact, { text: say("end"), most: span });
        text.textContent = say("online.says", { count: state.read * side, most: high.toFixed(3), total: total.toFixed(3), apart: apart < 1e-9 ? "0" : figures(apart) });
        return sofar.draw({ values: shown, most: Math.max(...shown.filter((v) => !Number.isNaN(v))), over: true });
      };
    },

    cost(box) {
      const whole = (/** @type {number} */ v) => v.toLocaleString("en").replaceAll(",", "\u202f");
      const sets = [slider("pixels", { min: 64, max: 1920, step: 64 }, String), slider("width", { min: 64, max: 1024, step: 64 }, String)];
      const strides = [8, 16, 32].map((s) => choice(`${say("set.stride")} ${s}`, () => state.stride === s, () => set({ stride: s }, true))), splits = [1, 4, 8].map((s) => choice(say("set.split", { heads: s }), () => state.split === s, () => set({ split: s }, true)));
      const table = make("table"), text = lines();
      box.append(...sets.map((s) => s.element), make("div", { className: "choices" }, [...strides, ...splits].map((s) => s.element)), scroll(table), text);
      return () => {
        [...sets, ...strides, ...splits].forEach((s) => s.update());
        const H = Math.ceil(state.pixels / state.stride), cells = H * H, wide = state.width, mega = (/** @type {number} */ v) => whole(Math.round(v / 1e6));
        const parts = [3 * wide * wide * cells, 2 * cells * cells * wide, cells * wide * 2 * (2 * H - 1)], all = parts.reduce((a, b) => a + b, 0), bytes = state.split * cells * cells * 4;
        fill(table, say("cost.table", { side: H, cells: whole(cells) }), ["", say("madds")], [
          ["q, k, v: 3C\u00b2N", mega(parts[0])], [say("cost.mix"), mega(parts[1])], [say("cost.position"), mega(parts[2])], [say("cost.all"), mega(all)], [say("cost.conv"), mega(9 * wide * wide * cells)]]);
        text.textContent = say("cost.says", { heads: state.split, memory: bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`, linear: `${((3 * wide * cells * 4) / 2 ** 20).toFixed(1)} MiB` });
      };
    },

    graft(box) {
      const set1 = slider("gamma", { min: 0, max: 1, step: 0.05 }, (v) => v.toFixed(2));
      const ratio = field(say("ratio"), { moves: "query" }), plot = make("div"), table = make("table"), text = lines();
      box.append(set1.element, make("div", { className: "split" }, [maps([ratio], "one"), make("div", {}, [plot, text, scroll(table)])]));
      return () => {
        set1.update();
        const { cells, whole } = strength(), shown = cells.map((v) => v * state.gamma), point = Math.round(state.gamma * (given.gammas.length - 1));
        const curves = scene().objects.flatMap((o) => [0, 1].map((label) => shape("polyline", { class: label ? "curve green" : "curve", points: o.byGamma.map((pair, i) => `${(40 + (430 * i) / (given.gammas.length - 1)).toFixed(1)},${(140 - 125 * pair[label]).toFixed(1)}`).join(" ") })));
        const x = 40 + 430 * state.gamma;
        plot.replaceChildren(shape("svg", { viewBox: "0 0 500 170", role: "img", "aria-label": say("curves") }, [
          shape("path", { class: "axis", d: "M40 15V140H470" }), shape("path", { class: "now", d: `M${x} 15V140` }), ...curves,
          shape("text", { x: 34, y: 20, "text-anchor": "end" }, ["1"]), shape("text", { x: 34, y: 144, "text-anchor": "end" }, ["0"]), shape("text", { x: 40, y: 158, "text-anchor": "middle" }, ["0"]), shape("text", { x: 470, y: 158, "text-anchor": "middle" }, ["1"]), shape("text", { x: 255, y: 162, "text-anchor": "middle" }, ["\u03b3"])]),
          make("div", { className: "key" }, [make("span", {}, [line("#c94f36", "solid"), say("red.score")]), make("span", {}, [line("#008c5a", "dashed"), say("green.score")])]));
        text.textContent = say("graft.says", { gamma: state.gamma.toFixed(2), ratio: figures(whole * state.gamma) });
        fillScores(table, say("torch"), [`\u03b3 = ${state.gamma.toFixed(2)}`], (o) => [o.byGamma[point]]);
        return ratio.draw({ values: shown, most: Math.max(...cells), over: true });
      };
    },
  };

  /** @param {string} hue @param {string} style */
  function line(hue, style) {
    const made = make("i");
    made.style.borderTop = `3px ${style} ${hue}`;
    return made;
  }

  /** @type {Map<string, {cells: Float64Array, whole: number}>} */
  const strengths = new Map();
  /** Return |f(x)| / |x| of each cell, and over the whole map, with all heads and the positions chosen. */
  function strength() {
    const name = `${state.image} ${state.positions}`, done = strengths.get(name);
    if (done) return done;
    const change = new Float64Array(N), own = new Float64Array(N);
    for (let h = 0; h < heads; h++) for (let i = 0; i < N; i++) change[i] += attention.mix(attention.row(weights, vectors(h), i, form()).weights, vectors(h)).reduce((s, v) => s + v * v, 0);
    scene().x.forEach((v, n) => (own[n % N] += v * v));
    const sum = (/** @type {Float64Array} */ of) => of.reduce((a, b) => a + b, 0);
    const found = { cells: change.map((v, i) => Math.sqrt(v / own[i])), whole: Math.sqrt(sum(change) / sum(own)) };
    strengths.set(name, found);
    return found;
  }

  // ---- All of it.

  /** @type {(() => any)[]} */
  const updates = [];
  /** @type {any} */
  let waiting = 0;
  let turn = 0;

  /** Change the state, and draw once for all changes of the moment. @param {Record<string, number | string>} change @param {boolean} [spoken] Whether to tell a screen reader. */
  function set(change, spoken = false) {
    Object.assign(state, change);
    if ("image" in change) Object.assign(state, { query: scene().objects[0].cell, key: -1 });
    if (spoken && ("query" in change || "key" in change)) {
      const j = key(), { row: toRow, column: toColumn } = place(j);
      byId("spoken").textContent = say("spoken", { ...place(state.query), toRow, toColumn, head: state.head, weight: figures(row().weights[j]) });
    }
    if (!waiting) waiting = setTimeout(draw); // browsers send one move of the pointer a frame
  }

  async function draw() {
    waiting = 0;
    const mine = ++turn;
    if (state.theme) document.documentElement.dataset.theme = state.theme;
    else delete document.documentElement.dataset.theme;
    writeAddress();
    await Promise.all(updates.map((update) => update()));
    document.body.dataset.ready = String(mine);
  }

  /** Build the bar that all panels share. */
  function buildBar() {
    const images = make("select", { "aria-label": say("image"), onchange: () => set({ image: images.selectedIndex }, true) }, scenes.map((s, i) => make("option", { textContent: say("image.number", { number: i + 1, colour: say(`beacon.${s.objects[0].label}`) }) })));
    const each = Array.from({ length: heads }, (_, h) => choice(String(h), () => state.head === h, () => set({ head: h }, true)));
    each.forEach((one, h) => one.element.setAttribute("aria-label", say("head", { head: h })));
    const switched = check(say("set.positions"), () => Boolean(state.positions), (on) => set({ positions: on ? 1 : 0 }, true));
    const back = make("button", { type: "button", textContent: say("back"), onclick: () => set({ ...START, theme: state.theme }, true) });
    byId("bar").append(make("span", {}, [images, back]), make("span", { role: "group", "aria-label": say("set.head") }, [say("set.head"), ...each.map((one) => one.element)]), make("span", {}, [switched.element]));
    updates.push(() => { images.selectedIndex = state.image; [...each, switched].forEach((one) => one.update()); });
  }

  /** @param {any} box */
  function buildPanel(box) {
    const name = String(box.dataset.panel);
    box.setAttribute("aria-label", say(`panel.${name}`));
    const update = panels[name](box);
    box.append(make("p", { className: "says", textContent: say(`says.${name}`) }));
    updates.push(update);
  }

  readAddress();
  buildBar();
  document.querySelectorAll("[data-panel]").forEach(buildPanel);
  byId("theme").addEventListener("click", () => {
    const dark = state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    set({ theme: dark ? "light" : "dark" });
  });
  addEventListener("hashchange", () => { readAddress(); set({}); });
  draw();
})();

// @ts-check
"use strict";
(() => {
  /** @typedef {{png: string, count: number, size: number, scale: number[], signed: boolean}} Packed Maps in 8 bits. */
  /** @typedef {{values: Uint8ClampedArray, size: number, scale: number[], signed: boolean}} Maps The same, decoded. */
  /** @typedef {{label: string, class: number, score: number, box: number[], place: number[]}} Detection */
  /** @typedef {{count: number, at: (map: number) => Float32Array, scale: number[]}} Read */

  const data = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("data")).textContent || "{}");
  const COLOURS = ["#d53c1e", "#008c5a", "#0072b2", "#b0447a", "#966400", "#5682c8"];
  const METHODS = { odam: "#d53c1e", random: "#8a8f98", gaussian: "#0072b2", box: "#008c5a" };
  const TARGETS = { class: "class", left: "left.side", top: "top", right: "right", bottom: "bottom" };

  /** @param {string} id @returns {any} */
  const byId = (id) => document.getElementById(id);

  /** Show what went wrong; a page that fails says so. @param {string} text */
  function fail(text) {
    byId("problem").hidden = false;
    byId("problem").textContent = text;
  }
  addEventListener("error", (event) => fail(event.message));
  addEventListener("unhandledrejection", (event) => fail(String(event.reason)));

  // ---- State, kept in the address after "#".

  const state = { lang: "en", theme: "", image: 0, detection: 0, layer: 0, view: "raw", ask: "cell", target: "class", cell: /** @type {number[] | null} */ (null) };

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const spoken = data.language || (navigator.language.startsWith("zh") ? "zh" : "en");
    state.lang = given.get("lang") === "zh" || given.get("lang") === "en" ? String(given.get("lang")) : spoken;
    state.theme = ["light", "dark"].includes(given.get("theme") || "") ? String(given.get("theme")) : "";
    state.image = within(given.get("image"), data.images.length);
    state.detection = within(given.get("detection"), image().detections.length);
    state.layer = given.has("layer") ? within(given.get("layer"), image().attentions.length) : firstLayer();
    state.view = given.get("view") === "weighted" ? "weighted" : "raw";
    state.ask = given.get("ask") === "box" ? "box" : "cell";
    state.target = given.get("target") || "class";
    const at = (given.get("cell") || "").split(",").map(Number);
    state.cell = at.length === 2 && at.every((x) => x >= 0 && x < 1) && given.get("cell") ? at : null;
  }

  function writeAddress() {
    /** @type {Record<string, string>} */
    const shown = { lang: state.lang, image: String(state.image + 1), detection: String(state.detection + 1), layer: String(state.layer + 1), view: state.view, ask: state.ask, target: state.target };
    if (state.theme) shown.theme = state.theme;
    if (state.cell) shown.cell = state.cell.map((x) => x.toFixed(3)).join(",");
    history.replaceState(null, "", "#" + new URLSearchParams(shown));
  }

  /** Read a number from 1 as an index. @param {string | null} text @param {number} count */
  const within = (text, count) => Math.min(Math.max(0, Math.floor(Number(text) || 1) - 1), Math.max(0, count - 1));
  const image = () => data.images[state.image];
  /** Return the attention of the first graft that has one, else the first. */
  const firstLayer = () => Math.max(0, image().attentions.findIndex((/** @type {any} */ a) => image().grafts.some((/** @type {any} */ g) => a.name.startsWith(`${g.name}.`))));

  /** Say a sentence of the table. @param {string} key @param {Record<string, any>} [given] */
  function say(key, given = {}) {
    const words = data.words[state.lang];
    if (!(key in words)) throw new Error(`no words for ${key}`);
    return words[key].replace(/\{(\w+)\}/g, (/** @type {string} */ _, /** @type {string} */ name) => String(given[name]));
  }

  // ---- Elements and maps.

  /** @param {string} tag @param {Record<string, any>} [properties] @param {(Node | string)[]} [children] */
  function make(tag, properties = {}, children = []) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key.startsWith("aria-") || key === "role") made.setAttribute(key, String(value));
      else Object.assign(made, { [key]: value });
    }
    made.append(...children);
    return made;
  }

  /** @type {Map<string, Promise<Uint8ClampedArray>>} */
  const decoded = new Map();

  /** Read the lines of a PNG: what a red channel holds is what was written. @param {Packed} packed */
  async function pixels(packed) {
    const shown = new Image();
    shown.src = packed.png;
    await shown.decode();
    const canvas = make("canvas", { width: packed.size, height: packed.count });
    const context = /** @type {HTMLCanvasElement} */ (canvas).getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
    if (!context) throw new Error("this browser gives no canvas");
    context.drawImage(shown, 0, 0);
    const found = context.getImageData(0, 0, packed.size, packed.count).data;
    const values = new Uint8ClampedArray(packed.size * packed.count);
    for (let i = 0; i < values.length; i++) values[i] = found[4 * i];
    return values;
  }

  /** Return maps as shares of their scale, from -1 to 1. @param {Packed} packed @returns {Promise<Read>} */
  async function read(packed) {
    if (!packed.count || !packed.png) return { count: 0, at: () => new Float32Array(0), scale: [] };
    let waiting = decoded.get(packed.png);
    if (!waiting) decoded.set(packed.png, (waiting = pixels(packed)));
    const values = await waiting;
    const { levels, zero, signedLevels } = data.coding;
    /** @param {number} map */
    const at = (map) => {
      const line = values.subarray(map * packed.size, (map + 1) * packed.size);
      return Float32Array.from(line, (v) => (packed.signed ? (v - zero) / signedLevels : v / levels));
    };
    return { count: packed.count, at, scale: packed.scale };
  }

  /** Return the colour of a share, from -1 to 1. @param {number} share @returns {number[]} */
  function colour(share) {
    const stops = share < 0 ? data.palette.negative : data.palette.positive;
    const at = Math.min(1, Math.abs(share)) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    return [0, 1, 2].map((c) => stops[low][c] + (stops[low + 1][c] - stops[low][c]) * (at - low));
  }

  /** @type {Map<number, Promise<{photo: HTMLImageElement, grey: HTMLCanvasElement}>>} */
  const photos = new Map();

  /** Return the image of a number, in colour and in grey. @param {number} number */
  function photo(number) {
    const known = photos.get(number);
    if (known) return known;
    const loading = (async () => {
      const shown = new Image();
      shown.src = data.images[number].source;
      await shown.decode();
      const side = Math.min(1, 320 / Math.max(shown.naturalWidth, shown.naturalHeight));
      const grey = /** @type {HTMLCanvasElement} */ (make("canvas", { width: Math.max(1, Math.round(shown.naturalWidth * side)), height: Math.max(1, Math.round(shown.naturalHeight * side)) }));
      const context = grey.getContext("2d", { willReadFrequently: true });
      if (!context) throw new Error("this browser gives no canvas");
      context.drawImage(shown, 0, 0, grey.width, grey.height);
      const all = context.getImageData(0, 0, grey.width, grey.height);
      for (let i = 0; i < all.data.length; i += 4) {
        const light = 0.75 * (0.299 * all.data[i] + 0.587 * all.data[i + 1] + 0.114 * all.data[i + 2]);
        all.data[i] = all.data[i + 1] = all.data[i + 2] = light;
      }
      context.putImageData(all, 0, 0);
      return { photo: shown, grey };
    })();
    photos.set(number, loading);
    return loading;
  }

  /** Draw a map over the grey image. @param {HTMLCanvasElement} canvas @param {HTMLCanvasElement} grey @param {Float32Array} shares @param {number[]} grid @param {number[] | null} box */
  function drawMap(canvas, grey, shares, grid, box) {
    const wide = 320, high = Math.max(1, Math.round((wide * grey.height) / grey.width));
    Object.assign(canvas, { width: wide, height: high });
    const context = canvas.getContext("2d");
    if (!context) throw new Error("this browser gives no canvas");
    context.drawImage(grey, 0, 0, wide, high);
    const heat = new ImageData(grid[1], grid[0]);
    shares.forEach((share, i) => heat.data.set([...colour(share), 255 * (0.35 + 0.6 * Math.sqrt(Math.abs(share)))], 4 * i));
    const small = /** @type {HTMLCanvasElement} */ (make("canvas", { width: grid[1], height: grid[0] }));
    small.getContext("2d")?.putImageData(heat, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, wide, high);
    if (box) {
      const x = wide / image().size[1], y = high / image().size[0];
      context.lineWidth = 2;
      context.strokeStyle = "#fff";
      context.strokeRect(box[0] * x, box[1] * y, (box[2] - box[0]) * x, (box[3] - box[1]) * y);
    }
    canvas.dataset.drawn = "1";
  }

  /** @param {string} caption @returns {{figure: HTMLElement, canvas: HTMLCanvasElement, caption: HTMLElement}} */
  function tile(caption) {
    const canvas = /** @type {HTMLCanvasElement} */ (make("canvas", { role: "img", "aria-label": caption }));
    const text = make("figcaption", { textContent: caption });
    return { figure: make("figure", {}, [canvas, text]), canvas, caption: text };
  }

  /** Name a map in its caption and to those who cannot see it. @param {ReturnType<typeof tile>} of @param {string} text */
  function caption(of, text) {
    of.caption.textContent = text;
    of.canvas.setAttribute("aria-label", text);
  }

  /** @param {number} value */
  const figures = (value) => (value === 0 ? "0" : Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(3));

  /** Draw the colours of a scale between its ends. @param {string} low @param {string} high @param {boolean} signed */
  function scaleBar(low, high, signed) {
    const canvas = /** @type {HTMLCanvasElement} */ (make("canvas", { width: 160, height: 1, "aria-hidden": "true" }));
    const context = canvas.getContext("2d");
    const line = new ImageData(160, 1);
    for (let i = 0; i < 160; i++) line.data.set([...colour(signed ? i / 79.5 - 1 : i / 159), 255], 4 * i);
    context?.putImageData(line, 0, 0);
    return make("div", { className: "scale" }, [low, canvas, high]);
  }

  /** @param {string} id @param {string} [says] @param {Record<string, any>} [given] */
  function panel(id, says = `${id}.says`, given = {}) {
    const heading = make("h2", { id: `${id}-title`, textContent: say(id, given) });
    const made = make("section", { id, className: "panel", "aria-labelledby": `${id}-title` }, [heading]);
    if (says) made.append(make("p", { className: "says", textContent: say(says) }));
    return made;
  }

  /** Return which sentence says that nothing was detected. */
  const nothing = () => (data.task === "superres" ? "none.superres" : "none");

  /** @param {string} key @param {Record<string, any>} [given] */
  const empty = (key, given) => make("p", { className: "empty", textContent: say(key, given) });

  /** @param {string} text @param {boolean} pressed @param {() => void} press */
  const choice = (text, pressed, press) => make("button", { type: "button", textContent: text, "aria-pressed": String(pressed), onclick: press });

  // ---- The left side: the image and its detections.

  async function drawLeft() {
    const { photo: shown } = await photo(state.image);
    const canvas = byId("photo");
    Object.assign(canvas, { width: shown.naturalWidth, height: shown.naturalHeight });
    canvas.getContext("2d").drawImage(shown, 0, 0);
    canvas.dataset.drawn = "1";
    const [height, width] = image().size;
    const area = (/** @type {Detection} */ d) => (d.box[2] - d.box[0]) * (d.box[3] - d.box[1]);
    const buttons = image().detections.map((/** @type {Detection} */ d, /** @type {number} */ i) => {
      const hue = COLOURS[d.class % COLOURS.length];
      const number = make("span", { textContent: String(i + 1) });
      number.style.background = hue;
      const button = choice("", i === state.detection, () => select(i));
      button.setAttribute("aria-label", describe(i));
      button.title = describe(i);
      button.append(number);
      const [left, top] = [Math.max(0, d.box[0]), Math.max(0, d.box[1])];
      const [right, bottom] = [Math.min(width, d.box[2]), Math.min(height, d.box[3])];
      Object.assign(button.style, {
        left: `${(100 * left) / width}%`, top: `${(100 * top) / height}%`, borderColor: hue,
        width: `${(100 * Math.max(0, right - left)) / width}%`, height: `${(100 * Math.max(0, bottom - top)) / height}%`,
      });
      return { button, area: area(d) };
    });
    buttons.sort((/** @type {any} */ a, /** @type {any} */ b) => b.area - a.area).forEach((/** @type {any} */ one, /** @type {number} */ i) => (one.button.style.zIndex = String(i + 1)));
    byId("boxes").replaceChildren(...buttons.map((/** @type {any} */ one) => one.button));
    byId("detections").replaceChildren(...image().detections.map((/** @type {Detection} */ _, /** @type {number} */ i) =>
      make("li", {}, [choice(describe(i), i === state.detection, () => select(i))])));
    const none = byId("none");
    none.hidden = image().detections.length > 0 && !image().leftOut;
    none.textContent = image().detections.length ? say("leftOut", { count: image().leftOut }) : say(nothing());
  }

  /** @param {number} i */
  function describe(i) {
    const d = image().detections[i];
    return say("detection", { number: i + 1, label: d.label, score: d.score < 0.1 ? d.score.toPrecision(2) : d.score.toFixed(2) });
  }

  /** @param {number} i */
  function select(i) {
    if (i < 0 || i >= image().detections.length) return;
    const inside = document.activeElement?.closest("#boxes") ? "boxes" : document.activeElement?.closest("#detections") ? "detections" : "";
    state.detection = i;
    state.cell = null;
    byId("spoken").textContent = describe(i);
    draw().then(() => {
      if (!inside) return;
      for (const button of byId(inside).querySelectorAll("button[aria-pressed=true]")) button.focus({ preventScroll: true });
    });
  }

  // ---- What was mixed.

  /** @typedef {{tiles: ReturnType<typeof tile>[], note: HTMLElement, bar: HTMLElement}} Heads */
  /** @type {Heads | null} */
  let heads = null;

  function mixedPanel() {
    const made = panel("mixed", state.view === "weighted" ? "weighted.says" : "mixed.says");
    const all = image().attentions;
    heads = null;
    if (!all.length) return add(made, empty("mixed.none"));
    const choices = make("div", { className: "choices" });
    const layers = make("select", { onchange: () => { state.layer = /** @type {any} */ (layers).selectedIndex; draw(); }, "aria-label": say("layer") },
      all.map((/** @type {any} */ a, /** @type {number} */ i) => make("option", { textContent: `${a.name} (${a.kind})`, selected: i === state.layer })));
    choices.append(layers);
    for (const view of ["raw", "weighted"]) choices.append(choice(say(view), state.view === view, () => { state.view = view; draw(); }));
    const attention = all[state.layer];
    if (attention.boxRows) {
      for (const ask of ["cell", "box"]) choices.append(choice(say(`ask.${ask}`), state.ask === ask, () => { Object.assign(state, { ask, cell: null }); draw(); }));
    }
    const tiles = Array.from({ length: attention.heads }, (_, i) => tile(say("head", { number: i })));
    heads = { tiles, note: make("p", { className: "note" }), bar: make("div") };
    if (data.live) choices.append(make("span", { className: "note", textContent: say("live") }));
    made.append(choices, heads.note, heads.bar, make("div", { className: "maps" }, tiles.map((t) => t.figure)));
    return made;
  }

  /** @typedef {[number[], number[]]} Lanes */

  /** Return the rows and columns of the map whose cells the pointer asks: all where rows are computed, else some. @param {any} attention @returns {Lanes | null} */
  function lanes(attention) {
    const { grid, pointer } = attention;
    const all = (/** @type {number} */ count) => Array.from({ length: count }, (_, i) => i);
    if (data.live) return grid && [all(grid[0]), all(grid[1])];
    if (!pointer) return null;
    const [rows, columns] = pointer.grid;
    return [
      all(rows).map((i) => Math.floor(pointer.cells[i * columns] / grid[1])),
      all(columns).map((i) => pointer.cells[i] % grid[1]),
    ];
  }

  /** Return which row and which column of them lie nearest to a place of the image, from 0 to 1. @param {Lanes} asked @param {number[]} grid @param {number[]} at */
  function nearest(asked, grid, at) {
    return asked.map((lane, axis) => {
      const away = lane.map((cell) => Math.abs(cell + 0.5 - at[axis] * grid[axis]));
      return away.indexOf(Math.min(...away));
    });
  }

  let drawing = 0;

  // ---- Rows that the program which serves this page computes.

  /** @typedef {{rows: Packed, drawn: number[]}} Answer */
  /** @type {Map<string, Answer>} */
  const answers = new Map();
  /** @type {Promise<unknown> | null} */
  let asking = null;

  /** Ask for the rows of one cell; null if the pointer has moved on meanwhile. @param {string} request @param {number} turn @returns {Promise<Answer | null>} */
  async function answer(request, turn) {
    while (asking && !answers.has(request)) {
      await asking;
      if (turn !== drawing) return null;
    }
    const known = answers.get(request);
    if (known) return known;
    const fetching = fetch(request).then((given) => {
      if (!given.ok) throw new Error(String(given.status));
      return given.json();
    });
    asking = fetching.catch(() => {}).then(() => (asking = null));
    const found = await fetching;
    if (answers.size > 400) answers.clear();
    answers.set(request, found);
    return found;
  }

  /** Draw the heads of the cell or the detection that is asked. */
  async function drawHeads() {
    const shown = heads, turn = ++drawing;
    if (!shown) return;
    const attention = image().attentions[state.layer];
    const asked = askedOf(attention);
    markCell(asked.cell);
    const sentences = [asked.text];
    if (asked.request) {
      try {
        const found = await answer(asked.request, turn);
        if (!found || turn !== drawing) return;
        Object.assign(asked, { packed: found.rows, drawn: found.drawn });
      } catch {
        data.live = false; // whoever served the page has ended; what is in it stays
        byId("spoken").textContent = say("live.stopped");
        fail(say("live.stopped"));
        return drawHeads();
      }
    }
    if (!asked.packed) {
      shown.tiles.forEach((t, i) => { t.figure.hidden = true; caption(t, say("head", { number: i })); });
      shown.bar.replaceChildren();
      shown.note.textContent = sentences.join(" ");
      return;
    }
    const [maps, { grey }] = await Promise.all([read(asked.packed), photo(state.image)]);
    if (turn !== drawing || shown !== heads) return; // the pointer has moved on
    const [rows, columns] = attention.grid || asked.drawn, [drawnRows, drawnColumns] = asked.drawn;
    if (attention.grid && (rows !== drawnRows || columns !== drawnColumns)) sentences.push(say("drawn", { rows, columns, drawnRows, drawnColumns }));
    sentences.push(say("same.scale"));
    shown.note.textContent = sentences.join(" ");
    const scale = maps.scale[asked.first], high = figures(scale);
    shown.bar.replaceChildren(scaleBar(asked.packed.signed ? `-${high}` : "0", high, asked.packed.signed));
    const box = state.cell ? null : image().detections[state.detection]?.box || null;
    shown.tiles.forEach((t, i) => {
      const shares = maps.at(asked.first + i);
      t.figure.hidden = false;
      drawMap(t.canvas, grey, shares, asked.drawn, box);
      const most = shares.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0) * scale;
      caption(t, `${say("head", { number: i })}: ${say("most", { value: figures(most) })}`);
    });
  }

  /** Return which maps answer, the first of them, and the sentence that says who is asked. @param {any} attention */
  function askedOf(attention) {
    /** @type {{packed: Packed | null, request: string, first: number, drawn: number[], cell: number[] | null, text: string}} */
    const found = { packed: null, request: "", first: 0, drawn: attention.drawn, cell: null, text: "" };
    const some = image().detections.length > 0;
    if (state.cell && data.live && attention.grid && (state.view === "raw" || attention.weighted)) {
      const [height, width] = attention.grid;
      const row = Math.floor(state.cell[0] * height), column = Math.floor(state.cell[1] * width);
      /** @type {Record<string, string>} */
      const query = { image: String(state.image), layer: String(state.layer), cell: String(row * width + column) };
      if (state.view === "weighted") query.detection = String(state.detection);
      found.request = `rows?${new URLSearchParams(query)}`;
      found.cell = [row / height, column / width, 1 / height, 1 / width];
      found.text = say("asked.cell", { row: row + 1, column: column + 1, rows: height, columns: width });
      return found;
    }
    if (state.cell && attention.pointer && state.view === "raw") {
      const { rows, drawn } = attention.pointer, [height, width] = attention.grid;
      const asked = /** @type {Lanes} */ (lanes(attention)), [down, right] = nearest(asked, attention.grid, state.cell);
      const row = asked[0][down], column = asked[1][right], number = down * asked[1].length + right;
      Object.assign(found, { packed: rows, first: number * attention.heads, drawn, cell: [row / height, column / width, 1 / height, 1 / width] });
      found.text = say("asked.cell", { row: row + 1, column: column + 1, rows: height, columns: width });
    } else if (state.cell && state.view === "weighted" && attention.pointer) {
      found.text = say("weighted.cell");
    } else if (state.cell && !attention.pointer) {
      found.text = say("no.pointer");
    } else if (!some) {
      found.text = say("asked.none");
    } else if (state.view === "weighted" && !attention.weighted) {
      found.text = attention.reason;
    } else {
      const box = state.ask === "box" && attention.boxRows;
      const packed = state.view === "raw" ? (box ? attention.boxRows : attention.rows) : box ? attention.boxWeighted : attention.weighted;
      Object.assign(found, { packed, first: state.detection * attention.heads });
      if (box) {
        const count = attention.boxCells[state.detection];
        found.text = say(count > data.boxMost ? "asked.box.some" : "asked.box", { count, most: data.boxMost, number: state.detection + 1 });
        return found;
      }
      const place = image().detections[state.detection].place;
      if (attention.grid && data.task !== "classify") {
        const [height, width] = attention.grid, [h, w] = image().size;
        found.cell = [Math.floor((place[1] / h) * height) / height, Math.floor((place[0] / w) * width) / width, 1 / height, 1 / width];
      }
      const who = data.task === "classify" ? "asked.classify" : attention.grid ? "asked.detection" : "asked.query";
      found.text = say(who, { number: state.detection + 1 });
    }
    return found;
  }

  /** Mark the asked cell on the image. @param {number[] | null} cell Top, left, height and width, from 0 to 1. */
  function markCell(cell) {
    const mark = byId("cell");
    mark.hidden = !cell;
    if (cell) Object.assign(mark.style, { top: `${100 * cell[0]}%`, left: `${100 * cell[1]}%`, height: `${100 * cell[2]}%`, width: `${100 * cell[3]}%`, zIndex: "99" });
  }

  // ---- What the detection rests on.

  async function restsPanel() {
    const made = panel("rests");
    if (!image().detections.length) return add(made, empty(nothing()));
    const found = image().relevance;
    const targets = found[0].targets;
    const target = Math.max(0, targets.indexOf(state.target));
    if (targets.length > 1)
      made.append(make("div", { className: "choices", role: "group", "aria-label": say("target") }, targets.map((/** @type {keyof typeof TARGETS} */ name, /** @type {number} */ i) =>
        choice(say(TARGETS[name]), i === target, () => { state.target = name; draw(); }))));
    const grid = add(made, make("div", { className: "maps" }), true);
    for (const layer of found) {
      const maps = await read(layer.maps), { grey } = await photo(state.image);
      const index = state.detection * targets.length + target;
      const scale = maps.scale[index];
      const one = tile(`${layer.layer}: ${scale > 0 ? say("most", { value: figures(scale) }) : say("independent")}`);
      drawMap(one.canvas, grey, maps.at(index), layer.drawn, image().detections[state.detection].box);
      grid.append(one.figure);
    }
    return made;
  }

  /** @param {HTMLElement} to @param {HTMLElement} child @param {boolean} [inner] */
  function add(to, child, inner = false) {
    to.append(child);
    return inner ? child : to;
  }

  // ---- Gates, grafts, and what becomes of detections.

  async function gatesPanel() {
    const made = panel("gates");
    if (!image().gates.length) return add(made, empty("gates.none"));
    const { grey } = await photo(state.image);
    for (const gate of image().gates) {
      made.append(make("h3", { textContent: `${gate.name} (${gate.kind})` }));
      const grid = add(made, make("div", { className: "maps wide" }), true);
      const values = gate.channels.map((/** @type {number[]} */ pair) => pair[1]);
      if (values.length > 1) grid.append(bars(values, say("channels", { count: values.length, high: figures(values[0]), low: figures(values[values.length - 1]) })));
      else made.append(make("p", { className: "note", textContent: say("gates.one", { value: figures(values[0]) }) }));
      if (gate.cells) {
        const one = tile(say("cells", { low: figures(gate.range[0]), high: figures(gate.range[1]) }));
        drawMap(one.canvas, grey, (await read(gate.cells)).at(0), gate.grid, null);
        grid.append(one.figure);
      } else made.append(make("p", { className: "note", textContent: say("gates.same", { value: figures(gate.range[0]) }) }));
    }
    return made;
  }

  /** @param {number[]} values @param {string} text */
  function bars(values, text) {
    const canvas = /** @type {HTMLCanvasElement} */ (make("canvas", { width: 480, height: 160, role: "img", "aria-label": text }));
    const context = canvas.getContext("2d");
    if (!context) throw new Error("this browser gives no canvas");
    const low = Math.min(0, ...values), high = Math.max(1, ...values);
    const y = (/** @type {number} */ v) => 158 - (156 * (v - low)) / (high - low);
    context.fillStyle = "#2c718e";
    values.forEach((v, i) => context.fillRect((480 * i) / values.length, Math.min(y(v), y(0)), Math.max(1, 480 / values.length - 0.5), Math.max(1, Math.abs(y(v) - y(0)))));
    context.strokeStyle = "#8a8f98";
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(0, y(1));
    context.lineTo(480, y(1));
    context.stroke();
    canvas.dataset.drawn = "1";
    return make("figure", {}, [canvas, make("figcaption", { textContent: text })]);
  }

  async function strengthPanel() {
    const made = panel("strength");
    if (!image().grafts.length) return add(made, empty("strength.none"));
    const { grey } = await photo(state.image);
    const grid = add(made, make("div", { className: "maps" }), true);
    for (const graft of image().grafts) {
      const value = graft.strength === null ? "∞" : figures(graft.strength);
      const one = tile(`${graft.name}: ${say("strength.value", { value, gamma: figures(graft.gamma) })}`);
      drawMap(one.canvas, grey, (await read(graft.cells)).at(0), graft.grid, null);
      if (graft.strength !== null && graft.strength < 0.01) one.figure.append(make("p", { className: "note", textContent: say("strength.small") }));
      grid.append(one.figure);
    }
    return made;
  }

  function causalPanel() {
    const made = panel("causal");
    const tests = Object.entries(image().causal);
    if (!tests.length) return add(made, empty("causal.none"));
    for (const [name, changes] of tests) {
      made.append(make("h3", { textContent: say("without", { name: name === "all" ? say("all") : name }) }));
      if (/** @type {any[]} */ (changes).length) made.append(changeTable(/** @type {any[]} */ (changes)));
      else made.append(empty("no.change"));
    }
    return made;
  }

  /** @param {any[]} changes @param {string} [before] @param {string} [after] */
  function changeTable(changes, before = say("before"), after = say("after")) {
    const cell = (/** @type {string} */ tag, /** @type {string} */ text, number = true) => make(tag, { textContent: text, className: number ? "number" : "" });
    const score = (/** @type {number | null} */ value) => (value === null ? "" : value.toFixed(3));
    const head = make("tr", {}, [cell("th", "#"), cell("th", say("class.name"), false), cell("th", before), cell("th", after), cell("th", say("change")), cell("th", say("iou")), cell("th", say("became"), false)]);
    const rows = changes.map((c) => {
      const change = (c.after || 0) - (c.before || 0);
      return make("tr", { className: c.number !== null && c.number === state.detection ? "chosen" : "" }, [
        cell("td", c.number === null ? "" : String(c.number + 1)), cell("td", c.label, false), cell("td", score(c.before)), cell("td", score(c.after)),
        cell("td", (change > 0 ? "+" : "") + change.toFixed(3)), cell("td", c.kind === "kept" ? c.iou.toFixed(2) : ""), cell("td", say(c.kind), false)]);
    });
    return make("div", { className: "scroll", tabIndex: 0 }, [make("table", {}, [make("thead", {}, [head]), make("tbody", {}, rows)])]);
  }

  // ---- Another model beside.

  async function basePanel() {
    const base = image().baseline;
    const made = panel("base", "base.says", { name: base ? base.name : say("other") });
    if (!base) return add(made, empty("base.none"));
    const { photo: shown, grey } = await photo(state.image);
    const grid = add(made, make("div", { className: "maps four" }), true);
    const partner = base.partner[state.detection] ?? null;
    for (const [caption, detections, chosen] of /** @type {[string, Detection[], number | null][]} */ ([
      [say("base.detections", { name: base.name }), base.detections, partner],
      [say("base.detections", { name: say("base.here") }), image().detections, state.detection],
    ])) {
      const one = tile(caption);
      drawBoxes(one.canvas, shown, detections, chosen);
      grid.append(one.figure);
    }
    if (!image().detections.length) return made;
    if (partner === null || partner >= base.maps.count) made.append(empty("base.lost", { name: base.name }));
    else {
      const one = tile(`${say("base.odam", { name: base.name })}, ${base.layer}`);
      drawMap(one.canvas, grey, (await read(base.maps)).at(partner), base.drawn, base.detections[partner].box);
      grid.append(one.figure);
    }
    const own = image().relevance.find((/** @type {any} */ r) => r.layer === base.layer) || image().relevance[image().relevance.length - 1];
    const other = tile(`${say("base.odam", { name: say("base.here") })}, ${own.layer}`);
    drawMap(other.canvas, grey, (await read(own.maps)).at(state.detection * own.targets.length), own.drawn, image().detections[state.detection].box);
    grid.append(other.figure);
    made.append(changeTable(base.changes, say("base.score", { name: base.name }), say("base.score", { name: say("base.here") })));
    return made;
  }

  /** @param {HTMLCanvasElement} canvas @param {HTMLImageElement} shown @param {Detection[]} detections @param {number | null} chosen */
  function drawBoxes(canvas, shown, detections, chosen) {
    Object.assign(canvas, { width: 440, height: Math.max(1, Math.round((440 * shown.naturalHeight) / shown.naturalWidth)) });
    const context = canvas.getContext("2d");
    if (!context) throw new Error("this browser gives no canvas");
    context.drawImage(shown, 0, 0, canvas.width, canvas.height);
    const x = canvas.width / image().size[1], y = canvas.height / image().size[0];
    detections.forEach((d, i) => {
      context.lineWidth = i === chosen ? 5 : 2;
      context.strokeStyle = COLOURS[d.class % COLOURS.length];
      context.strokeRect(d.box[0] * x, d.box[1] * y, (d.box[2] - d.box[0]) * x, (d.box[3] - d.box[1]) * y);
    });
    canvas.dataset.drawn = "1";
  }

  // ---- Deletion and insertion.

  function scoresPanel() {
    const made = panel("scores");
    const all = image().curves;
    if (!all.length) return add(made, empty("scores.none"));
    if (data.verdicts.length) made.append(verdictList());
    const found = all.find((/** @type {any} */ c) => c.detection === state.detection);
    if (!found) return add(made, empty("scores.not", { count: all.length }));
    const names = /** @type {(keyof typeof METHODS)[]} */ (Object.keys(METHODS));
    made.append(make("div", { className: "key" }, names.map((name) => {
      const line = make("i");
      line.style.borderColor = METHODS[name];
      return make("span", {}, [line, say(name)]);
    })));
    for (const direction of ["deletion", "insertion"]) {
      made.append(make("h3", { textContent: `${say(direction)}, ${found.layer}` }), plot(found.curves[direction], say(direction)));
      const better = (/** @type {string} */ other) => (direction === "deletion" ? 1 : -1) * (found.areas[direction][other] - found.areas[direction].odam) > 0;
      const lost = names.filter((name) => name !== "odam" && !better(name)).map((name) => say(name)).join(", ");
      made.append(make("p", { className: "note", textContent: lost ? say("loses", { controls: lost, direction: say(direction) }) : say("beats", { direction: say(direction) }) }));
    }
    const cell = (/** @type {string} */ tag, /** @type {string} */ text) => make(tag, { textContent: text, className: "number" });
    const rows = names.map((name) => make("tr", {}, [make("th", { textContent: say(name) }), ...["deletion", "insertion"].map((d) => cell("td", found.areas[d][name].toFixed(3))), cell("td", name in found.pointing ? found.pointing[name].toFixed(3) : "")]));
    const head = make("tr", {}, [make("th"), cell("th", `${say("deletion")}: ${say("area")}`), cell("th", `${say("insertion")}: ${say("area")}`), cell("th", say("pointing"))]);
    made.append(make("div", { className: "scroll", tabIndex: 0 }, [make("table", {}, [make("thead", {}, [head]), make("tbody", {}, rows)])]));
    return made;
  }

  /** Say where ODAM beats which control over all images. */
  function verdictList() {
    const signed = (/** @type {number} */ x) => (x > 0 ? "+" : "") + x.toFixed(3);
    const lines = data.verdicts.map((/** @type {any} */ v) => make("li", { textContent: say(v.beats ? "beats.over" : "loses.over", {
      control: say(v.control), direction: say(v.metric.split(" ")[0]), difference: signed(v.difference), low: signed(v.low), high: signed(v.high) }) }));
    return make("div", {}, [make("h3", { textContent: say("over", { count: data.verdicts[0].images }) }), make("ul", { className: "verdicts" }, lines)]);
  }

  /** @param {Record<string, number[]>} curves @param {string} title */
  function plot(curves, title) {
    const NS = "http://www.w3.org/2000/svg";
    /** @param {string} tag @param {Record<string, string | number>} attributes @param {string} [text] */
    const shape = (tag, attributes, text = "") => {
      const made = document.createElementNS(NS, tag);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
      made.textContent = text;
      return made;
    };
    const svg = shape("svg", { viewBox: "0 0 520 190", role: "img", "aria-label": title });
    const high = Math.max(0.01, ...Object.values(curves).flat());
    const point = (/** @type {number} */ v, /** @type {number} */ i, /** @type {number} */ n) => `${(40 + (460 * i) / (n - 1)).toFixed(1)},${(150 - (135 * v) / high).toFixed(1)}`;
    svg.append(shape("path", { class: "axis", d: "M40 15V150H500" }), shape("text", { x: 34, y: 22, "text-anchor": "end" }, figures(high)), shape("text", { x: 34, y: 154, "text-anchor": "end" }, "0"), shape("text", { x: 40, y: 168 }, "0"), shape("text", { x: 500, y: 168, "text-anchor": "end" }, "1"), shape("text", { x: 270, y: 184, "text-anchor": "middle" }, say("share")));
    for (const [name, values] of Object.entries(curves))
      svg.append(shape("polyline", { points: values.map((v, i) => point(v, i, values.length)).join(" "), fill: "none", stroke: METHODS[/** @type {keyof typeof METHODS} */ (name)], "stroke-width": name === "odam" ? 3 : 1.5, "stroke-dasharray": name === "odam" ? "" : "6 3" }));
    return svg;
  }

  // ---- All of it.

  let turn = 0;

  async function draw() {
    const mine = ++turn;
    document.documentElement.lang = state.lang === "zh" ? "zh-CN" : "en";
    document.documentElement.dataset.theme = state.theme;
    byId("title").textContent = say("title", { model: data.model });
    byId("left-title").textContent = say("left");
    byId("left-says").textContent = say("left.says");
    byId("stage").setAttribute("aria-label", say("left"));
    byId("language").textContent = say("language");
    byId("theme").textContent = say("theme");
    byId("footer").textContent = say(data.served ? "footer.live" : "footer");
    byId("chooser").hidden = data.images.length < 2;
    byId("chooser").firstElementChild.textContent = say("image");
    byId("images").replaceChildren(...data.images.map((/** @type {any} */ one, /** @type {number} */ i) => make("option", { textContent: one.name, selected: i === state.image })));
    writeAddress();
    const mixed = mixedPanel();
    const shown = await Promise.all([drawLeft(), mixed, restsPanel(), gatesPanel(), strengthPanel(), causalPanel(), basePanel(), scoresPanel()]);
    if (mine !== turn) return;
    byId("panels").replaceChildren(.../** @type {HTMLElement[]} */ (shown.slice(1)));
    await drawHeads();
    document.body.dataset.ready = String(mine);
  }

  /** Ask the cell at a place of the image. @param {number} row From 0 to 1. @param {number} column */
  function ask(row, column) {
    const limit = (/** @type {number} */ x) => Math.min(Math.max(x, 0), 0.9999);
    state.cell = [limit(row), limit(column)];
    writeAddress();
    drawHeads();
  }

  /** @param {number} down @param {number} right */
  function step(down, right) {
    const attention = image().attentions[state.layer];
    const asked = attention ? lanes(attention) : null;
    if (!asked) return;
    const from = nearest(asked, attention.grid, state.cell || startCell());
    const [row, column] = asked.map((lane, axis) => {
      const to = Math.min(Math.max(from[axis] + [down, right][axis], 0), lane.length - 1);
      return (lane[to] + 0.5) / attention.grid[axis];
    });
    ask(row, column);
    byId("spoken").textContent = askedOf(attention).text;
  }

  /** Return the place of the detection, or the middle. */
  function startCell() {
    const d = image().detections[state.detection], [h, w] = image().size;
    return d ? [Math.min(0.999, Math.max(0, d.place[1] / h)), Math.min(0.999, Math.max(0, d.place[0] / w))] : [0.5, 0.5];
  }

  function forget() {
    if (!state.cell) return;
    state.cell = null;
    writeAddress();
    drawHeads();
  }

  function listen() {
    const stage = byId("stage");
    stage.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      const at = byId("photo").getBoundingClientRect();
      ask((event.clientY - at.top) / at.height, (event.clientX - at.left) / at.width);
    });
    stage.addEventListener("pointerleave", (/** @type {PointerEvent} */ event) => { if (event.pointerType === "mouse") forget(); });
    stage.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const moves = /** @type {Record<string, [number, number]>} */ ({ ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] });
      if (!(event.key in moves)) return;
      event.preventDefault();
      step(...moves[event.key]);
    });
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLSelectElement) return;
      if (/^[1-9]$/.test(event.key)) select(Number(event.key) - 1);
      else if (event.key === "Escape") forget();
    });
    byId("images").addEventListener("change", () => { Object.assign(state, { image: byId("images").selectedIndex, detection: 0, cell: null }); draw(); });
    byId("language").addEventListener("click", () => { state.lang = state.lang === "en" ? "zh" : "en"; draw(); });
    byId("theme").addEventListener("click", () => {
      const dark = state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      state.theme = dark ? "light" : "dark";
      draw();
    });
    addEventListener("hashchange", () => { readAddress(); draw(); });
  }

  readAddress();
  listen();
  draw();
})();

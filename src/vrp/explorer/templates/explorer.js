"use strict";
(function () {
  const FACTS = JSON.parse(document.getElementById("facts").textContent);
  const MODELS = FACTS.models;
  const ROW_HEIGHT = 52;
  const MOST_DETAILS = 40; // files of single answers that are kept in memory

  // ── Files ──────────────────────────────────────────────────────────────────────────────────
  // A page on disk may load scripts alone: each file calls explorerChunk (vrp/explorer/chunks.py).
  const arriving = new Map();
  const files = new Map();

  window.explorerChunk = function (name, stamp, nBytes, text) {
    const file = arriving.get(name);
    if (!file) return;
    if (stamp !== FACTS.stamps[name]) file.fail(problemOf(name, "is of another run"));
    else inflate(text, nBytes).then((bytes) => file.done(valuesOf(bytes)), file.fail);
  };

  function problemOf(name, what) {
    return new Error(`${FACTS.folder}/${name} ${what}; copy the whole folder, or run “vrp explorer” again`);
  }

  function load(name) {
    if (!files.has(name)) {
      files.set(name, new Promise((done, fail) => {
        arriving.set(name, { done, fail });
        const script = document.createElement("script");
        script.src = [...FACTS.folder.split("/"), ...name.split("/")].map(encodeURIComponent).join("/");
        script.onerror = () => fail(problemOf(name, "cannot be loaded"));
        script.onload = () => script.remove();
        document.head.append(script);
      }));
    }
    return files.get(name);
  }

  async function inflate(text, nBytes) {
    const packed = new Uint8Array(Math.ceil((text.length * 15) / 8));
    let bits = 0;
    let held = 0;
    let place = 0;
    for (let i = 0; i < text.length; i++) {
      held = (held << 15) | (text.charCodeAt(i) - 0x3400);
      bits += 15;
      while (bits >= 8) {
        bits -= 8;
        packed[place++] = (held >> bits) & 255;
      }
      held &= (1 << bits) - 1;
    }
    const stream = new Blob([packed.subarray(0, nBytes)]).stream();
    const content = stream.pipeThrough(new DecompressionStream("deflate-raw"));
    return new Uint8Array(await new Response(content).arrayBuffer());
  }

  function valuesOf(bytes) {
    const nHeader = new DataView(bytes.buffer).getUint32(0, true);
    let place = 4 + nHeader;
    const values = {};
    for (const entry of JSON.parse(new TextDecoder().decode(bytes.subarray(4, place)))) {
      const nBytes = entry.kind === "u1" ? entry.n : 4 * entry.n;
      values[entry.name] = arrayOf(entry, bytes.subarray(place, place + nBytes));
      place += nBytes;
    }
    return values;
  }

  function arrayOf(entry, bytes) {
    const n = entry.n;
    if (entry.kind === "u1") return bytes;
    const whole = new Uint32Array(n);
    for (let i = 0; i < n; i++) {
      whole[i] = bytes[i] | (bytes[n + i] << 8) | (bytes[2 * n + i] << 16) | (bytes[3 * n + i] << 24);
    }
    if (entry.kind === "f4") return new Float32Array(whole.buffer);
    const signed = (u) => (u >>> 1) ^ -(u & 1);
    if (entry.kind === "words") return Array.from(whole, (u) => entry.words[signed(u)] ?? null);
    // A step such as 0.001 has no exact value: to divide by 1000 gives the nearest one.
    const inverse = Math.round(1 / entry.step);
    return Float64Array.from(whole, (u) => (u === 0xffffffff ? NaN : signed(u) / inverse));
  }

  // Arrays of all files of a list, one after another.
  async function loadAll(cuts) {
    const parts = await Promise.all(cuts.files.map(load));
    const values = {};
    for (const name of Object.keys(parts[0])) {
      const arrays = parts.map((part) => part[name]);
      if (Array.isArray(arrays[0])) values[name] = [].concat(...arrays);
      else {
        values[name] = new arrays[0].constructor(arrays.reduce((sum, one) => sum + one.length, 0));
        let place = 0;
        for (const one of arrays) {
          values[name].set(one, place);
          place += one.length;
        }
      }
    }
    return values;
  }

  function fileOf(cuts, row) {
    let file = 0;
    while (cuts.starts[file + 1] <= row) file++;
    return { name: cuts.files[file], place: row - cuts.starts[file] };
  }

  const recent = [];
  async function detailsOf(card) {
    const { name, place } = fileOf(MODELS[card.model].details, card.item);
    if (recent.includes(name)) recent.splice(recent.indexOf(name), 1);
    recent.push(name);
    if (recent.length > MOST_DETAILS) files.delete(recent.shift());
    return { values: await load(name), place };
  }

  async function pictureOf(item) {
    const { name, place } = fileOf(FACTS.images, items.picture[item]);
    const values = await load(name);
    if (!values.urls) {
      values.urls = [];
      values.blobs = [];
      let start = 0;
      for (const nBytes of values.n_bytes) {
        const blob = nBytes ? new Blob([values.content.subarray(start, start + nBytes)], { type: "image/webp" }) : null;
        values.blobs.push(blob);
        values.urls.push(blob && URL.createObjectURL(blob));
        start += nBytes;
      }
    }
    return {
      blob: values.blobs[place], url: values.urls[place], problem: values.problem[place],
      width: values.size[2 * place], height: values.size[2 * place + 1],
      window: (policy) => values["window " + policy].subarray(4 * place, 4 * place + 4),
    };
  }

  // ── Page ───────────────────────────────────────────────────────────────────────────────────
  let items = null; // column → values of all items
  const answers = []; // by model: column → values of all items
  const $ = (id) => document.getElementById(id);
  const filters = $("filters");
  const FILTERS = ["model", "task", "form", "outcome", "intervention", "sort", "order", "words"];
  const state = { rule: "", item: "", shown: "", all: false, layer: {}, view: "attention", sinks: true };
  let cards = []; // the selection, in order
  let chosen = -1; // place of the shown card in it; -1: it is not in the selection
  let current = null; // the shown card

  function el(tag, properties, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name in made && name !== "style" && name !== "list") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  }

  function number(value, digits = 4) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    return String(Number(value.toPrecision(digits))).replace("-", "−");
  }
  const fixed = (value, places) => (Number.isNaN(value) ? "–" : value.toFixed(places).replace("-", "−"));
  const percent = (share) => fixed(100 * share, 0) + "%";

  // The study's symbols, such as H_s, with their index below the line.
  const SYMBOL = new RegExp(FACTS.symbol);
  function symbols(text) {
    // A split gives letter and index of each symbol between the texts around it.
    const parts = text.split(SYMBOL);
    return parts.map((part, i) => (i % 3 === 0 ? part : el(i % 3 === 1 ? "i" : "sub", {}, part)));
  }
  // Where there can be no markup; no letter exists that is a low SC.
  const LOW = { s: "ₛ", k: "ₖ", tok: "ₜₒₖ", SC: " SC" };
  const plainSymbols = (text) => text.replace(new RegExp(SYMBOL, "g"), (_, letter, index) => letter + LOW[index]);

  function table(heads, rows, { caption = "", text = [0] } = {}) {
    const cell = (tag, i, content, more) => el(tag, { className: text.includes(i) ? "text" : "", ...more }, content ?? "");
    return el("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": caption || heads[0] },
      el("table", {},
        el("thead", {}, el("tr", {}, heads.map((head, i) => cell("th", i, head, { scope: "col" })))),
        el("tbody", {}, rows.map((row) => el("tr", { className: row.picked ? "picked" : "" },
          row.map((content, i) => cell(i ? "td" : "th", i, content, i ? {} : { scope: "row" })))))));
  }

  const absent = (what) => el("p", { className: "soft" }, what + ": not run.");
  const outcomeOf = (card) => answers[card.model].correct[card.item];
  const OUTCOMES = { 1: ["right", "✓"], 0: ["wrong", "✗"] };
  function tag(card) {
    const [word] = OUTCOMES[outcomeOf(card)] || ["not judged"];
    return el("span", { className: "tag " + (word === "not judged" ? "" : word) }, word);
  }
  function mark(card) {
    const [word, sign] = OUTCOMES[outcomeOf(card)] || ["not judged", "·"];
    return el("span", { className: "mark-" + word, role: "img", "aria-label": word }, sign);
  }

  // ── Selection ──────────────────────────────────────────────────────────────────────────────
  const valuesFor = (model, key) => answers[model][key];

  // Tables of interventions that some model has.
  const TABLES = { mask: "Masking", ablate: "Ablation", trace: "Tracing" };
  const tables = () => Object.keys(TABLES).filter((name) => answers.some((one) => one["asked " + name]));

  // Whether the model was asked under one of the interventions, under any or under none of them.
  function wasAsked(model, item, intervention) {
    const under = (name) => (answers[model]["asked " + name] || [])[item] === 1;
    if (intervention === "none") return !tables().some(under);
    return intervention === "any" ? tables().some(under) : under(intervention);
  }

  function matches(model, item, wanted) {
    if (wanted.model && MODELS[model].name !== wanted.model) return false;
    if (wanted.task && items.task[item] !== wanted.task) return false;
    if (wanted.form && items.form[item] !== wanted.form) return false;
    const correct = answers[model].correct[item];
    if (wanted.outcome === "right" && correct !== 1) return false;
    if (wanted.outcome === "wrong" && correct !== 0) return false;
    if (wanted.outcome === "unknown" && !Number.isNaN(correct)) return false;
    if (wanted.intervention && !wasAsked(model, item, wanted.intervention)) return false;
    if (!wanted.words) return true;
    const text = items.question[item] + "\n" + (answers[model].answer[item] ?? "");
    return text.toLowerCase().includes(wanted.words.toLowerCase());
  }

  function wantedFilters() {
    return Object.fromEntries(FILTERS.map((name) => [name, filters.elements[name].value]));
  }

  function filtered(wanted) {
    const found = [];
    for (let item = 0; item < items.item_id.length; item++) {
      for (let model = 0; model < MODELS.length; model++) {
        if (matches(model, item, wanted)) found.push({ model, item });
      }
    }
    return found;
  }

  const meets = (card, rule) => answers[card.model]["rule " + rule][card.item] === 3;
  const stratumOf = (item) => items.task[item] + ": " + items.form[item];

  // Answers that meet both conditions, and how many would if the two were unrelated in each cell.
  function tallyOf(base, rule) {
    const cells = new Map();
    for (const card of base) {
      const flags = answers[card.model]["rule " + rule][card.item];
      if (flags > 3) continue;
      const key = card.model + " " + stratumOf(card.item);
      const cell = cells.get(key) || { n: 0, first: 0, second: 0, both: 0 };
      cell.n++;
      cell.first += flags & 1;
      cell.second += flags >> 1;
      cell.both += flags === 3;
      cells.set(key, cell);
    }
    let n = 0, both = 0, expected = 0;
    for (const cell of cells.values()) {
      n += cell.n;
      both += cell.both;
      expected += (cell.first * cell.second) / cell.n;
    }
    return { n, both, expected };
  }

  function sorted(found, { sort, order }) {
    if (!sort) return order === "down" ? found.reverse() : found;
    const way = order === "down" ? -1 : 1;
    const key = ({ model, item }) => (valuesFor(model, sort) || [])[item] ?? NaN;
    const keyed = found.map((card, place) => ({ card, place, key: key(card) }));
    keyed.sort((a, b) => {
      if (Number.isNaN(a.key) || Number.isNaN(b.key)) return Number.isNaN(a.key) - Number.isNaN(b.key) || a.place - b.place;
      return way * (a.key - b.key) || a.place - b.place;
    });
    return keyed.map((one) => one.card);
  }

  // What is shown stays where the selection has it, or where a link asks for it; after sorting it
  // is the first; where nothing is selected it is nothing.
  function choose({ keep = false, first = false } = {}) {
    const wanted = wantedFilters();
    const base = filtered(wanted);
    showRules(base);
    cards = sorted(state.rule ? base.filter((card) => meets(card, state.rule)) : base, wanted);
    const judged = cards.filter((card) => !Number.isNaN(outcomeOf(card)));
    const right = judged.filter((card) => outcomeOf(card) === 1).length;
    $("tally").textContent = `${cards.length.toLocaleString("en")} answer${cards.length === 1 ? "" : "s"}` +
      (judged.length ? `, ${percent(right / judged.length)} right` : "") +
      (state.rule ? `, by the rule “${FACTS.rules.find(([name]) => name === state.rule)[1]}”` : "");
    chosen = placeOf(current);
    $("nothing").hidden = cards.length > 0;
    $("nothing").textContent = base.length ? "No answer within these filters meets the rule." : "No answer matches these filters.";
    list.hidden = !cards.length;
    if (!cards.length && !(keep && current)) clearCard();
    if (cards.length && (first || (chosen < 0 && !(keep && current)))) {
      chosen = 0;
      show(cards[0]);
    }
    drawList();
    intoView();
  }

  const placeOf = (card) => cards.findIndex((one) => card && one.item === card.item && one.model === card.model);

  function showRules(base) {
    const body = $("rules").querySelector("tbody");
    body.replaceChildren(...FACTS.rules.flatMap(([name, label, description]) => {
      const { n, both, expected } = tallyOf(base, name);
      const pick = el("button", {
        type: "button", disabled: !n && state.rule !== name, // what is picked can be let go
        onclick: () => { state.rule = state.rule === name ? "" : name; choose(); remember(); },
      }, label);
      pick.setAttribute("aria-pressed", String(state.rule === name));
      const note = !base.length || both ? "" : n ? `; none of these ${n.toLocaleString("en")} answers` : "; not known of these answers";
      const named = el("tr", { className: "named" }, el("td", { className: "text" }, pick),
        el("td", {}, n ? both.toLocaleString("en") : "–"), el("td", {}, n ? expected.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 }) : "–"));
      return [named, el("tr", { className: "meant" }, el("td", { className: "text", colSpan: 3 }, symbols(description), note))];
    }));
    if (state.rule) $("rules").open = true;
  }

  // ── List ───────────────────────────────────────────────────────────────────────────────────
  const list = $("list");
  const rows = list.firstElementChild;
  const pool = [];
  let drawing = 0;

  function drawList() {
    rows.style.height = cards.length * ROW_HEIGHT + "px";
    const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - 4);
    const last = Math.min(cards.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + 4);
    while (pool.length < last - first) pool.push(newRow());
    // A place in the list keeps its row while both are in sight: few rows change at a time.
    const taken = new Set();
    for (let place = first; place < last; place++) {
      const row = pool[place % pool.length];
      taken.add(row);
      fillRow(row, place);
    }
    for (const row of pool) row.node.hidden = !taken.has(row);
    const active = chosen >= first && chosen < last ? "row-" + chosen : "";
    if (active) list.setAttribute("aria-activedescendant", active);
    else list.removeAttribute("aria-activedescendant");
  }

  function newRow() {
    const parts = {
      image: el("img", { alt: "", decoding: "async" }), question: el("b"), answer: el("span"), value: el("span", { className: "value" }),
    };
    const node = el("div", { className: "row", role: "option" }, parts.image, el("div", {}, parts.question, parts.answer), parts.value);
    node.addEventListener("click", () => go(Number(node.dataset.place)));
    rows.append(node);
    return { node, parts, card: null, place: -1 };
  }

  function fillRow(row, place) {
    const card = cards[place];
    const { node, parts } = row;
    node.setAttribute("aria-selected", String(place === chosen));
    const sort = filters.elements.sort.value;
    if (row.card === card && row.place === place && row.sort === sort) return;
    Object.assign(row, { card, place, sort });
    node.id = "row-" + place;
    node.dataset.place = place;
    node.setAttribute("aria-posinset", place + 1);
    node.setAttribute("aria-setsize", cards.length);
    node.style.transform = `translateY(${place * ROW_HEIGHT}px)`;
    parts.question.textContent = items.question[card.item];
    parts.answer.replaceChildren(mark(card), ` ${answers[card.model].answer[card.item] ?? "no answer"} · ${MODELS[card.model].name}`);
    parts.answer.firstChild.style.display = "inline";
    parts.value.textContent = sort ? number((valuesFor(card.model, sort) || [])[card.item], 3) : "";
    parts.image.removeAttribute("src");
    pictureOf(card.item).then((picture) => {
      if (row.card === card && picture.url) parts.image.src = picture.url;
    }, report);
  }

  list.addEventListener("scroll", () => {
    if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; drawList(); });
  }, { passive: true });
  // The panel of rules, too, changes how many rows there is room for.
  new ResizeObserver(() => { if (items) drawList(); }).observe(list);
  window.addEventListener("resize", drawCanvases);

  function intoView() {
    if (chosen < 0) return;
    const above = list.scrollTop - chosen * ROW_HEIGHT;
    const below = (chosen + 1) * ROW_HEIGHT - list.clientHeight - list.scrollTop;
    // The next row comes into view at the edge, one that is far away in the middle.
    if (Math.max(above, below) > 2 * ROW_HEIGHT) list.scrollTop = (chosen + 0.5) * ROW_HEIGHT - list.clientHeight / 2;
    else if (above > 0) list.scrollTop -= above;
    else if (below > 0) list.scrollTop += below;
  }

  function go(place) {
    if (!cards.length) return;
    chosen = Math.min(cards.length - 1, Math.max(0, place));
    show(cards[chosen]);
    intoView();
    drawList();
    remember();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(input|select|textarea)$/i.test(event.target.tagName) && event.target.type !== "checkbox") return;
    const page = Math.max(1, Math.floor(list.clientHeight / ROW_HEIGHT) - 1);
    const steps = { j: 1, k: -1 };
    if (event.target === list) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity });
    if (!(event.key in steps)) return;
    event.preventDefault();
    go(Math.min(cards.length, Math.max(0, (chosen < 0 ? -1 : chosen) + steps[event.key])));
  });

  // ── Card ───────────────────────────────────────────────────────────────────────────────────
  let canvases = []; // functions that draw a canvas anew
  let turn = 0; // which card is being filled: what an earlier one loads comes too late

  function show(card) {
    const another = !current || card.item !== current.item || card.model !== current.model;
    current = card;
    turn++;
    canvases = [];
    const models = state.all ? MODELS.map((_, model) => model) : [card.model];
    const panels = el("div", { className: "panels" + (models.length > 1 ? " several" : "") }, models.map((model) => panel({ model, item: card.item })));
    $("card").replaceChildren(head(card), tabs(card), panels, neighbours(card));
    if (another) $("card").scrollTop = 0;
    drawCanvases();
  }

  function clearCard() {
    current = null;
    turn++;
    canvases = [];
    $("card").replaceChildren();
  }

  function drawCanvases() {
    for (const draw of canvases) draw();
  }

  function head({ item }) {
    const reference = items.reference[item];
    const about = [items.task[item], items.form[item], `${items.dataset[item]}/${items.split[item]}`, items.item_id[item], items.image[item]];
    return el("div", {},
      el("h2", {}, items.question[item]),
      el("p", {}, "Reference: ", el("b", {}, reference ?? "not known"), items.annotators[item] && items.annotators[item] !== reference ? ` (${items.annotators[item]})` : ""),
      el("p", { className: "soft" }, about.filter(Boolean).join(" · ")));
  }

  function tabs(card) {
    const buttons = MODELS.map(({ name }, model) => {
      const one = { model, item: card.item };
      const made = el("button", { type: "button", onclick: () => choosePanel(one) }, mark(one), ` ${name}: ${answers[model].answer[card.item] ?? "no answer"}`);
      made.setAttribute("aria-pressed", String(model === card.model));
      return made;
    });
    const compare = el("input", { type: "checkbox", checked: state.all, onchange: (event) => { state.all = event.target.checked; show(current); remember(); } });
    return el("div", { className: "tabs", role: "group", "aria-label": "Models and neighbours in the list" }, buttons,
      MODELS.length > 1 ? el("label", {}, compare, " side by side") : null,
      el("button", { type: "button", onclick: () => go(chosen - 1) }, "Previous (k)"),
      el("button", { type: "button", onclick: () => go(chosen + 1) }, "Next (j)"));
  }

  // Another model's answer to the same question, or another question on the image.
  function choosePanel(card) {
    show(card);
    chosen = placeOf(card);
    intoView();
    drawList();
    remember();
  }

  function neighbours(card) {
    const others = [];
    items.picture.forEach((picture, item) => { if (picture === items.picture[card.item] && item !== card.item) others.push(item); });
    if (!others.length) return el("p", { className: "soft" }, "No other question is on this image.");
    return el("div", {}, el("h3", {}, "Other questions on this image"),
      el("ul", { className: "neighbours" }, others.map((item) => el("li", {},
        el("a", { href: hashOf({ item: items.item_id[item] }), onclick: (event) => { event.preventDefault(); choosePanel({ model: card.model, item }); } }, items.question[item]),
        MODELS.map(({ name }, model) => el("span", {}, ` ${name}: ${answers[model].answer[item] ?? "no answer"} `, mark({ model, item })))))));
  }

  function panel(card) {
    const own = answers[card.model];
    const picture = el("div"), samples = el("div"), lens = el("div"), heads = el("div"), interventions = el("div");
    const node = el("div", { className: "panel" },
      el("h3", {}, `${MODELS[card.model].name}: `, el("b", {}, own.answer[card.item] ?? "no answer"), " ", tag(card)),
      answerLine(card),
      el("div", { className: "halves" }, el("div", {}, picture, samples, lens, heads), el("div", {}, signalTable(card), probeTable(card), interventions)));
    const mine = turn;
    Promise.all([detailsOf(card), pictureOf(card.item)]).then(async ([details, image]) => {
      const bitmap = image.blob && (await createImageBitmap(image.blob));
      if (turn !== mine) return;
      const look = attentionOf(card, details);
      const redraw = () => { drawCanvases(); heads.replaceChildren(headTable(card, look)); };
      picture.replaceChildren(...pictureView(card, look, image, bitmap, redraw));
      samples.replaceChildren(...sampleView(details));
      lens.replaceChildren(...lensView(card, details));
      heads.replaceChildren(headTable(card, look));
      interventions.replaceChildren(...interventionView(card, details));
      drawCanvases();
      performance.mark("card");
    }).catch(report);
    return node;
  }

  function answerLine(card) {
    const own = answers[card.model];
    const parsed = own.parsed[card.item];
    const named = (title, text) => el("span", { title: "in the CSV: " + title }, text);
    const parts = [named("parsed", parsed === null ? "not parsed" : `parsed as ${parsed}`)];
    if (!Number.isNaN(own.score[card.item])) parts.push(named("score", scoreText(card)));
    if (own.blind_answer) parts.push(named("blind_answer", `with a blank image: ${own.blind_answer[card.item] ?? "no answer"}${own.same_blind[card.item] === 1 ? " (the same)" : ""}`));
    else parts.push("blank image: not run");
    if (own.note[card.item]) parts.push(named("note", own.note[card.item]));
    return el("p", { className: "soft" }, parts.flatMap((part, i) => (i ? [" · ", part] : [part])));
  }

  function scoreText({ model, item }) {
    const score = number(answers[model].score[item]);
    if (items.task[item] === FACTS.yesNoTask) return `score ${score}`;
    return `VQA accuracy ${score} (how far the annotators agree with the answer, from 0 to 1; right from ${FACTS.vqaThreshold} on)`;
  }

  // ── Picture and attention ──────────────────────────────────────────────────────────────────
  function attentionOf(card, { values, place }) {
    if (!values.grid_h) return { absent: "Attention: not run." };
    const tokens = (i) => values.grid_h[i] * values.grid_w[i];
    const n = tokens(place);
    if (!n) return { absent: "No attention was kept for this answer." };
    let nKnown = 0, row = 0, before = 0, mapBytes = 0, sinkBytes = 0, hiddenBytes = 0;
    for (let i = 0; i < values.grid_h.length; i++) nKnown += tokens(i) > 0;
    const sample = values.largest || values.image_mass;
    const nLayers = sample ? sample.length / nKnown : 0;
    for (; before < place; before++) {
      row += tokens(before) > 0;
      mapBytes += Math.ceil((nLayers * tokens(before)) / 2);
      sinkBytes += Math.ceil((nLayers * tokens(before)) / 8);
      hiddenBytes += Math.ceil(tokens(before) / 8);
    }
    const bit = (bytes, start, i) => (bytes[start + (i >> 3)] >> (i & 7)) & 1;
    const ofLayer = (name) => values[name] && values[name].subarray(row * (values[name].length / nKnown), (row + 1) * (values[name].length / nKnown));
    return {
      n, nLayers, height: values.grid_h[place], width: values.grid_w[place], note: values.attention_note[place],
      captured: Boolean(values.maps), sinks: Boolean(values.sinks),
      largest: (layer) => values.largest[row * nLayers + layer],
      // Of a layer's largest value, in whole steps.
      step: (layer, token) => {
        const i = layer * n + token;
        return (values.maps[mapBytes + (i >> 1)] >> (i & 1 ? 4 : 0)) & 15;
      },
      isSink: (layer, token) => bit(values.sinks, sinkBytes, layer * n + token),
      isHidden: (token) => bit(values.hidden, hiddenBytes, token),
      mass: ofLayer("image_mass"), entropy: ofLayer("head_entropy"), clusters: ofLayer("head_clusters"), contribution: ofLayer("head_contribution"),
    };
  }

  // A layer's map, or the mean over layers (layer −1), each as a distribution over image tokens.
  function mapOf(look, layer) {
    const layers = layer < 0 ? Array.from({ length: look.nLayers }, (_, l) => l) : [layer];
    const mean = new Float64Array(look.n);
    for (const l of layers) {
      const map = new Float64Array(look.n);
      let sum = 0;
      for (let token = 0; token < look.n; token++) {
        if (!state.sinks && look.sinks && look.isSink(l, token)) continue;
        map[token] = look.largest(l) * look.step(l, token) / FACTS.mapSteps;
        sum += map[token];
      }
      // Steps are rounded: without sinks the map is scaled to one, with them it is as stored.
      const scale = state.sinks || !look.sinks ? 1 : 1 / sum;
      for (let token = 0; token < look.n; token++) mean[token] += (map[token] * scale) / layers.length;
    }
    return mean;
  }

  const layerOf = (card) => state.layer[card.model] ?? -1;

  function pictureView(card, look, image, bitmap, redraw) {
    if (!bitmap) return [el("p", { className: "soft" }, `The image cannot be shown: ${image.problem}.`)];
    const canvas = el("canvas", { className: "picture", role: "img" });
    const said = el("p", { className: "soft", "aria-live": "polite" });
    canvases.push(() => drawPicture(canvas, said, card, look, image, bitmap));
    if (look.absent || !look.captured) {
      return [canvas, el("p", { className: "soft" }, look.absent || "Attention: not captured.")];
    }
    return [canvas, pictureControls(card, look, redraw), said];
  }

  function pictureControls(card, look, redraw) {
    const change = (act) => (event) => { act(event.target); redraw(); remember(); };
    const layerText = (layer) => (layer < 0 ? "mean of all layers" : "layer " + layer);
    const named = el("output", {}, layerText(layerOf(card)));
    const slider = el("input", {
      type: "range", min: -1, max: look.nLayers - 1, step: 1, value: layerOf(card),
      oninput: change((input) => {
        state.layer[card.model] = Number(input.value);
        named.textContent = layerText(Number(input.value));
        input.setAttribute("aria-valuetext", named.textContent);
      }),
    });
    slider.setAttribute("aria-valuetext", named.textContent);
    const views = [["attention", "attention"], ["masked", FACTS.masking + " hidden"], ["picture", "image only"]];
    const radios = views.map(([value, label]) => el("label", {},
      el("input", { type: "radio", name: "view-" + card.model, value, checked: state.view === value, onchange: change(() => { state.view = value; syncControls(); }) }), label));
    const sinks = el("input", { type: "checkbox", className: "sinks", checked: state.sinks, disabled: !look.sinks, onchange: change((input) => { state.sinks = input.checked; syncControls(); }) });
    return el("fieldset", { className: "controls" }, el("legend", { className: "hidden" }, "What is drawn over the image"),
      el("label", { className: "slider" }, "Layer", slider, named), radios,
      el("label", {}, sinks, look.sinks ? "with sinks" : "sinks: not captured"));
  }

  function syncControls() {
    for (const radio of document.querySelectorAll(".controls input[type=radio]")) radio.checked = radio.value === state.view;
    for (const box of document.querySelectorAll(".controls input.sinks")) box.checked = state.sinks;
  }

  function drawPicture(canvas, said, card, look, image, bitmap) {
    const scale = Math.max(1, Math.round(420 / Math.max(bitmap.width, bitmap.height)));
    const width = (canvas.width = bitmap.width * scale), height = (canvas.height = bitmap.height * scale);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0, width, height);
    let text = `The image of the question “${items.question[card.item]}”.`;
    if (look.captured && state.view !== "picture") {
      text = state.view === "attention" ? drawAttention(context, card, look, image) : drawHidden(context, card, look, image);
      said.textContent = text;
    } else said.textContent = "";
    if (drawBoxes(context, card.item, width / image.width, height / image.height)) {
      text += ` White frame: ${items.object[card.item]}.`;
      said.textContent += ` White frame: ${items.object[card.item]}.`;
    }
    canvas.setAttribute("aria-label", text);
  }

  // For every column or row of pixels the token over its centre; −1 beyond the grid.
  function tokensAlong(nShown, nPixels, start, end, nCells) {
    return Int32Array.from({ length: nShown }, (_, i) => {
      const cell = Math.floor((((i + 0.5) * nPixels) / nShown - start) / (end - start) * nCells);
      return cell >= 0 && cell < nCells ? cell : -1;
    });
  }

  function everyPixel(context, card, look, image, paint) {
    const { width, height } = context.canvas;
    const [left, top, right, bottom] = image.window(MODELS[card.model].policy);
    const columns = tokensAlong(width, image.width, left, right, look.width);
    const lines = tokensAlong(height, image.height, top, bottom, look.height);
    const shown = context.getImageData(0, 0, width, height);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at += 4) {
        paint(shown.data, at, columns[x] < 0 || lines[y] < 0 ? -1 : lines[y] * look.width + columns[x]);
      }
    }
    context.putImageData(shown, 0, 0);
  }

  // As in the report's overlays: the image in grey, attention in colour over it.
  function drawAttention(context, card, look, image) {
    const layer = layerOf(card);
    const map = mapOf(look, layer);
    const most = map.reduce((a, b) => Math.max(a, b), 0);
    if (!(most > 0)) return `The attention map is undefined${look.note ? ": " + look.note : ""}.`;
    const heat = map.map((value) => value / most);
    everyPixel(context, card, look, image, (data, at, token) => {
      const grey = (0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]) / 255;
      const weight = token < 0 ? 0 : 0.85 * heat[token] ** 0.8;
      const dimmed = token < 0 ? 0.06 + 0.3 * grey : 0.12 + 0.62 * grey;
      const colour = FACTS.colours[token < 0 ? 0 : Math.round(FACTS.mapSteps * heat[token])];
      for (let i = 0; i < 3; i++) data[at + i] = 255 * (1 - weight) * dimmed + weight * colour[i];
    });
    const peak = map.indexOf(most);
    const where = `row ${Math.floor(peak / look.width) + 1}, column ${(peak % look.width) + 1} of ${look.height} × ${look.width}`;
    const mass = look.mass && (layer < 0 ? look.mass.reduce((a, b) => a + b, 0) / look.nLayers : look.mass[layer]);
    return `${layer < 0 ? "Mean of all layers" : "Layer " + layer}${state.sinks ? "" : " without sinks"}: the most attended token has ${number(most * look.n, 3)} times the uniform share (${where})` +
      (mass === undefined ? "." : `; ${fixed(100 * mass, 2)}% of all attention is on the image.`);
  }

  function drawHidden(context, card, look, image) {
    let hidden = 0;
    for (let token = 0; token < look.n; token++) hidden += look.isHidden(token);
    everyPixel(context, card, look, image, (data, at, token) => {
      if (token < 0) for (let i = 0; i < 3; i++) data[at + i] *= 0.4;
      else if (look.isHidden(token)) data[at] = data[at + 1] = data[at + 2] = 128;
    });
    return `Grey: the ${hidden} of ${look.n} image tokens that the masking hides (${FACTS.masking}).`;
  }

  const boxStarts = [];
  function drawBoxes(context, item, scaleX, scaleY) {
    if (!items.n_boxes) return 0;
    if (!boxStarts.length) items.n_boxes.reduce((sum, n, i) => ((boxStarts[i] = sum), sum + n), 0);
    for (let box = 0; box < items.n_boxes[item]; box++) {
      const [left, top, right, bottom] = items.boxes.subarray(4 * (boxStarts[item] + box), 4 * (boxStarts[item] + box) + 4);
      for (const [colour, grow] of [["#000", 1], ["#fff", 0]]) {
        context.strokeStyle = colour;
        context.lineWidth = 2 + 2 * grow;
        context.strokeRect(left * scaleX, top * scaleY, (right - left) * scaleX, (bottom - top) * scaleY);
      }
    }
    return items.n_boxes[item];
  }

  function headTable(card, look) {
    const layer = layerOf(card);
    const title = el("h4", {}, layer < 0 ? "Heads" : `Heads of layer ${layer}`);
    if (look.absent || !look.entropy && !look.contribution) return el("div", {}, title, el("p", { className: "soft" }, look.absent || "Not captured."));
    if (layer < 0) return el("div", {}, title, el("p", { className: "soft" }, "Choose a layer: the values of its heads are shown here."));
    const nHeads = (look.entropy || look.contribution).length / look.nLayers;
    const value = (of, head, places) => (of ? fixed(of[layer * nHeads + head], places) : "not captured");
    return el("div", {}, title, table(["Head", symbols("H_s, nats"), symbols("C_k"), "Contribution, logits"],
      Array.from({ length: nHeads }, (_, head) => [String(head), value(look.entropy, head, 3), value(look.clusters, head, 0), value(look.contribution, head, 3)])));
  }

  // ── Answers, signals, probes ───────────────────────────────────────────────────────────────
  function slice(values, counts, place) {
    const index = counts.slice(0, place).reduce((a, b) => a + b, 0);
    return values.slice(index, index + counts[place]);
  }

  function sampleView({ values, place }) {
    const title = el("h4", {}, "Sampled answers");
    const at = values.sample_item ? values.sample_item.indexOf(place) : -1;
    if (at < 0) return [title, absent("Sampling")];
    if (values.sample_note[at]) return [title, el("p", { className: "soft" }, values.sample_note[at])];
    const drawn = slice(values.samples, values.n_samples, at);
    const counts = new Map();
    for (const text of drawn) counts.set(text, (counts.get(text) || 0) + 1);
    const parts = [title, table(["Answer", `Of ${drawn.length}`], [...counts].sort((a, b) => b[1] - a[1]).map(([text, n]) => [text || "(empty)", String(n)]))];
    const exact = slice(values.exact_answers, values.n_exact, at);
    if (!exact.length) return [...parts, el("p", { className: "soft" }, "The exact distribution was not computed.")];
    const shares = slice(values.exact_probabilities, values.n_exact, at);
    const most = 8;
    parts.push(table(["Exact distribution, normalised", "Probability"], exact.slice(0, most).map((text, i) => [text || "(empty)", number(shares[i])])));
    const more = exact.length > most ? `${exact.length - most} more answers; ` : "";
    parts.push(el("p", { className: "soft" }, `${more}probability not explored: ${number(values.unresolved[at])}`));
    return parts;
  }

  // Share of the same model's answers in the stratum that have a lower value; ties count half.
  function percentile(column, item) {
    const value = column[item];
    if (Number.isNaN(value)) return NaN;
    const stratum = stratumOf(item);
    let below = 0, n = 0;
    for (let other = 0; other < column.length; other++) {
      if (Number.isNaN(column[other]) || stratumOf(other) !== stratum) continue;
      n++;
      below += column[other] < value ? 1 : column[other] === value ? 0.5 : 0;
    }
    return below / n;
  }

  function placeCell(share) {
    if (Number.isNaN(share)) return "–";
    const bar = el("span", { className: "place", "aria-hidden": "true" });
    bar.style.backgroundSize = `${100 * share}% 100%`;
    return el("span", {}, percent(share), bar);
  }

  function signalTable(card) {
    const names = MODELS[card.model].signals;
    const title = el("h4", {}, "Signals");
    if (!names.length) return el("div", {}, title, absent("Signals"));
    const rows = names.map((name) => {
      const fact = FACTS.signals[name];
      const column = answers[card.model]["signal " + name];
      const label = el("span", { title: `${plainSymbols(fact.description)}; in the CSV: ${name}` }, symbols(fact.label));
      const row = [label, number(column[card.item]), placeCell(percentile(column, card.item)), fact.way || "–"];
      row.picked = filters.elements.sort.value === "signal " + name;
      return row;
    });
    return el("div", {}, title, table(["Signal", "Value", "Percentile in its stratum", "Reliable when"], rows, { text: [0, 3], caption: "Signals" }));
  }

  function probeTable(card) {
    const own = answers[card.model];
    const title = el("h4", {}, "Probes, out of fold");
    if (!MODELS[card.model].probes.length) return el("div", {}, title, absent("Probes"));
    const rows = MODELS[card.model].probes.map((name) => {
      const column = own["probe " + name];
      const layer = own["layer " + name][card.item];
      const label = el("span", { title: `in the CSV: probe_${name}` }, symbols(FACTS.probes[name]));
      const row = [label, number(column[card.item]), placeCell(percentile(column, card.item)), layer >= 0 ? String(layer) : "–", number(own["fold " + name][card.item])];
      row.picked = filters.elements.sort.value === "probe " + name;
      return row;
    });
    return el("div", {}, title, table(["Probe", "Score", "Percentile in its stratum", "Layer", "Fold"], rows, { caption: "Probes" }));
  }

  // ── Layers ─────────────────────────────────────────────────────────────────────────────────
  const SERIES = [["--accent", []], ["--bad", [7, 4]], ["--good", [2, 3]]];

  function lineChart(series, layers, { mark = () => -1, levels = [], label }) {
    const canvas = el("canvas", { className: "chart", role: "img", "aria-label": label });
    canvases.push(() => drawLines(canvas, series, layers, mark(), levels));
    const keys = [...series, ...levels].map(([name], i) => {
      const [colour, dash] = i < series.length ? SERIES[i] : ["--faint", [1, 3]];
      const line = el("i");
      line.style.borderTop = `2.5px ${dash.length ? (dash[0] > 4 ? "dashed" : "dotted") : "solid"} var(${colour})`;
      return el("li", {}, line, name + (i < series.length ? "" : `: ${fixed(levels[i - series.length][1], 3)}`));
    });
    const rows = layers.map((layer, i) => [String(layer), ...series.map(([, values]) => fixed(values[i], 3))]);
    return el("div", {}, canvas, el("ul", { className: "keys" }, keys),
      el("details", {}, el("summary", {}, "Numbers"), table(["Layer", ...series.map(([name]) => name)], rows, { caption: "Numbers by layer" })));
  }

  function drawLines(canvas, series, layers, marked, levels) {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const all = [0, ...series.flatMap(([, values]) => [...values]), ...levels.map(([, value]) => value)].filter(Number.isFinite);
    let low = Math.min(...all), high = Math.max(...all);
    if (low === high) high = low + 1;
    const x = (i) => 44 + ((width - 56) * i) / Math.max(1, layers.length - 1);
    const y = (value) => height - 30 - ((height - 42) * (value - low)) / (high - low);
    const line = (points, stroke, dash, lineWidth) => {
      context.beginPath();
      points.forEach(([px, py], i) => (i ? context.lineTo(px, py) : context.moveTo(px, py)));
      context.strokeStyle = stroke;
      context.setLineDash(dash);
      context.lineWidth = lineWidth;
      context.stroke();
    };
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour("--soft");
    for (const value of new Set([low, 0, high])) {
      line([[40, y(value)], [width - 10, y(value)]], colour(value === 0 ? "--faint" : "--line"), [], 1);
      context.textAlign = "right";
      if (value === 0 || Math.abs(y(value) - y(0)) > 12) context.fillText(number(value, 3), 36, y(value) + 4);
    }
    context.textAlign = "center";
    const every = Math.ceil(layers.length / 9);
    layers.forEach((layer, i) => { if (i % every === 0) context.fillText(String(layer), x(i), height - 14); });
    context.fillText("layer", width / 2, height - 2);
    const at = layers.indexOf(marked);
    if (at >= 0) line([[x(at), 8], [x(at), height - 28]], colour("--soft"), [2, 2], 1);
    for (const [, value] of levels) line([[40, y(value)], [width - 10, y(value)]], colour("--faint"), [1, 3], 2);
    series.forEach(([, values], s) => {
      const points = [...values].map((value, i) => [x(i), y(value)]).filter(([, py]) => Number.isFinite(py));
      line(points, colour(SERIES[s][0]), SERIES[s][1], 2);
      context.fillStyle = colour(SERIES[s][0]);
      context.setLineDash([]);
      for (const [px, py] of points) { context.beginPath(); context.arc(px, py, 2.6, 0, 7); context.fill(); }
      context.fillStyle = colour("--soft");
    });
  }

  function lensView(card, { values, place }) {
    const title = el("h4", {}, "Layer by layer");
    const at = values.lens_item ? values.lens_item.indexOf(place) : -1;
    if (at < 0) return [title, absent("Logit lens")];
    const parts = [title];
    if (values.lens_note[at]) parts.push(el("p", { className: "soft" }, values.lens_note[at]));
    const groups = [
      [["truth margin", "truth_margin"], ["decision margin", "decision_margin"]],
      [["attention’s contribution", "attention_contribution"], ["MLP’s contribution", "mlp_contribution"]],
      [["residual update of image tokens", "residual_update"]],
    ];
    for (const group of groups) {
      const found = group.filter(([, name]) => values[name]).map(([label, name]) => {
        const nLayers = values[name].length / values.lens_item.length;
        return [label, values[name].subarray(at * nLayers, (at + 1) * nLayers)];
      });
      if (!found.length) {
        parts.push(el("p", { className: "soft" }, group.map(([label]) => label).join(" and ") + ": not captured."));
        continue;
      }
      const layers = Array.from(found[0][1], (_, layer) => layer);
      const ends = found.map(([label, line]) => `${label} ${fixed(line[0], 2)} at layer 0, ${fixed(line[line.length - 1], 2)} at the last`).join("; ");
      parts.push(lineChart(found, layers, { mark: () => layerOf(card), label: "By layer: " + ends }));
    }
    return parts;
  }

  // ── Interventions ──────────────────────────────────────────────────────────────────────────
  function interventionView(card, details) {
    return [...["mask", "ablate"].flatMap((name) => conditionTable(name, details)), ...traceView(details)];
  }

  // From where to where the rows of an item are; they are in the items' order.
  function rowsOf(column, place) {
    const found = [];
    for (let row = 0; row < column.length; row++) if (column[row] === place) found.push(row);
    return found;
  }

  function conditionTable(name, { values, place }) {
    const title = el("h4", {}, TABLES[name]);
    if (!values[name + " item"]) return [title, absent(TABLES[name])];
    const found = rowsOf(values[name + " item"], place);
    if (!found.length) return [title, el("p", { className: "soft" }, "This question was not asked under any condition. The filter “Intervention” finds those that were.")];
    const column = (key) => values[`${name} ${key}`];
    const groups = new Map();
    for (const row of found) groups.set(column("condition")[row], [...(groups.get(column("condition")[row]) || []), row]);
    const labels = new Map(FACTS.conditions[name]);
    const order = [...labels.keys(), ...groups.keys()];
    const rows = [...new Set(order)].filter((key) => groups.has(key)).map((key) => {
      const some = groups.get(key);
      const share = (flag) => some.filter((row) => column(flag)[row] === 1).length;
      const texts = new Map();
      for (const row of some) texts.set(column("answer")[row], (texts.get(column("answer")[row]) || 0) + 1);
      const said = [...texts].map(([text, n]) => (n > 1 ? `${text} ×${n}` : text)).join(", ");
      const margin = some.reduce((sum, row) => sum + column("decision_margin")[row], 0) / some.length;
      const out = (n) => (some.length > 1 ? `${n} of ${some.length}` : n ? "yes" : "no");
      return [labels.get(key) || key, said, out(share("correct")), out(share("changed")), fixed(margin, 3)];
    });
    return [title, table(["Condition", "Answer", "Right", "Changed", "Decision margin"], rows, { text: [0, 1], caption: TABLES[name] })];
  }

  const TRACES = [["knockout_image", "no attention to the image"], ["knockout_text", "no attention to the question"], ["patch", "state patched into the blank-image run"]];

  function traceView({ values, place }) {
    const title = el("h4", {}, "Tracing: margin of the first token");
    if (!values["trace item"]) return [title, absent("Tracing")];
    const found = rowsOf(values["trace item"], place);
    if (!found.length) return [title, el("p", { className: "soft" }, "This answer was not traced. The filter “Intervention” finds those that were.")];
    const column = (key) => values["trace " + key];
    const of = (kind) => found.filter((row) => column("kind")[row] === kind);
    const layers = [...new Set(found.map((row) => column("layer")[row]))].filter((layer) => layer >= 0).sort((a, b) => a - b);
    const series = TRACES.filter(([kind]) => of(kind).length).map(([kind, label]) => {
      const at = new Map(of(kind).map((row) => [column("layer")[row], column("margin")[row]]));
      return [label, layers.map((layer) => at.get(layer) ?? NaN)];
    });
    const levels = [["clean", "with the image"], ["blank", "with a blank image"]].filter(([kind]) => of(kind).length).map(([kind, label]) => [label, column("margin")[of(kind)[0]]]);
    return [title, el("p", { className: "soft" }, "By the first changed layer."), lineChart(series, layers, { levels, label: "Margin under knockouts and patches, by layer; the numbers follow" })];
  }

  // ── CSV, links, start ──────────────────────────────────────────────────────────────────────
  function csv() {
    const signals = [...new Set(MODELS.flatMap((model) => model.signals))];
    const probes = [...new Set(MODELS.flatMap((model) => model.probes))];
    const ofItem = ["item_id", "dataset", "split", "task", "form", "image", "question", "reference"];
    const ofAnswer = ["answer", "parsed", "correct", "score", "blind_answer", "note"];
    const keys = [...signals.map((name) => "signal " + name), ...probes.map((name) => "probe " + name)];
    // A cell that begins like a formula would be one in a spreadsheet.
    const cell = (value) => {
      if (value === null || value === undefined || Number.isNaN(value)) return "";
      if (typeof value === "number") return String(value);
      return '"' + (/^[=@]/.test(value) ? "'" + value : value).replace(/"/g, '""') + '"';
    };
    const lines = [[...ofItem, "model", ...ofAnswer, ...signals, ...probes.map((name) => "probe_" + name)]];
    for (const { model, item } of cards) {
      lines.push([...ofItem.map((name) => items[name][item]), MODELS[model].name,
        ...[...ofAnswer, ...keys].map((name) => (answers[model][name] || [])[item])]);
    }
    return lines.map((line) => line.map(cell).join(",")).join("\n") + "\n";
  }

  $("csv").addEventListener("click", () => {
    const link = el("a", { href: URL.createObjectURL(new Blob(["\ufeff" + csv()], { type: "text/csv;charset=utf-8" })), download: `${FACTS.study}-answers.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });

  function hashOf(changes) {
    const layer = current ? layerOf(current) : -1;
    const all = {
      item: current ? items.item_id[current.item] : "", shown: current ? MODELS[current.model].name : "",
      ...wantedFilters(), rule: state.rule, layer: layer < 0 ? "" : String(layer),
      view: state.view === "attention" ? "" : state.view, sinks: state.sinks ? "" : "out", all: state.all ? "1" : "", ...changes,
    };
    return "#" + new URLSearchParams(Object.entries(all).filter(([, value]) => value));
  }

  let remembered = "";
  function remember() {
    remembered = hashOf({});
    history.replaceState(null, "", remembered);
  }

  function readHash() {
    const told = new URLSearchParams(location.hash.slice(1));
    for (const name of FILTERS) filters.elements[name].value = told.get(name) || "";
    for (const name of FILTERS) if (filters.elements[name].selectedIndex < 0) filters.elements[name].value = "";
    state.rule = FACTS.rules.some(([name]) => name === told.get("rule")) ? told.get("rule") : "";
    state.view = ["masked", "picture"].includes(told.get("view")) ? told.get("view") : "attention";
    state.sinks = told.get("sinks") !== "out";
    state.all = told.get("all") === "1";
    const item = items.item_id.indexOf(told.get("item"));
    const model = Math.max(0, MODELS.findIndex(({ name }) => name === (told.get("shown") || told.get("model"))));
    if (told.get("layer")) state.layer[model] = Number(told.get("layer")) || 0;
    current = null;
    if (item >= 0) show({ model, item });
    choose({ keep: true });
  }

  window.addEventListener("hashchange", () => { if (location.hash !== remembered) readHash(); });
  $("skip").addEventListener("click", (event) => { event.preventDefault(); $("card").focus(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCanvases);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", (event) => {
    choose({ first: ["sort", "order"].includes(event.target.name) });
    if (current) show(current);
    remember();
  });

  // After a choice j and k move on through the list, unless a key changed a closed drop-down: the
  // next key may go on choosing.
  let choosing = false;
  filters.addEventListener("pointerdown", () => { choosing = false; });
  filters.addEventListener("keydown", (event) => {
    choosing = event.key !== "Enter";
    if (event.key === "Escape" && event.target.tagName === "SELECT") event.target.blur();
  });
  filters.addEventListener("change", (event) => {
    if (!choosing && event.target.tagName === "SELECT") event.target.blur();
  });

  function report(error) {
    $("problem").hidden = false;
    $("problem").textContent = error.message;
  }

  function fill(name, options) {
    filters.elements[name].replaceChildren(...options.map((one) => one.choices
      ? el("optgroup", { label: one.label }, one.choices.map(([value, text]) => el("option", { value }, text)))
      : el("option", { value: one[0] }, one[1])));
  }

  function fillFilters() {
    const forms = [...new Set(items.form)].filter(Boolean).sort();
    const signals = Object.keys(FACTS.signals).filter((name) => MODELS.some((model) => model.signals.includes(name)));
    const probes = Object.keys(FACTS.probes);
    fill("model", [["", "all"], ...MODELS.map(({ name }) => [name, name])]);
    fill("task", [["", "all"], ...FACTS.tasks.map((name) => [name, name])]);
    fill("form", [["", "all"], ...forms.map((name) => [name, name])]);
    fill("outcome", [["", "all"], ["right", "right"], ["wrong", "wrong"], ["unknown", "not judged"]]);
    const found = tables();
    const choices = [["any", "any"], ...found.map((name) => [name, TABLES[name].toLowerCase()]), ["none", "none"]];
    fill("intervention", [["", "all"], ...(found.length ? choices : [])]);
    fill("sort", [["", "image"],
      { label: "Signals", choices: signals.map((name) => ["signal " + name, plainSymbols(FACTS.signals[name].label)]) },
      { label: "Probes", choices: probes.map((name) => ["probe " + name, plainSymbols(FACTS.probes[name])]) }]);
  }

  // The first answer's own files come with the lists, so that it is there as soon as they are.
  if (!location.hash) [FACTS.images.files[0], MODELS[0].details.files[0]].forEach((name) => load(name).catch(report));
  Promise.all([loadAll(FACTS.items), ...MODELS.map((model) => loadAll(model.answers))]).then(([ofItems, ...ofModels]) => {
    items = ofItems;
    answers.push(...ofModels);
    fillFilters();
    readHash();
  }).catch(report);
})();

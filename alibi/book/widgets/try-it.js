/** Try it: two trained models read the reader's text in the page, in windows from L to 16 L. */
"use strict";

const TryIt = (() => {
  const WINDOWS = 16;
  const [WORDS, BARS] = [6, 128];

  /** The sums of groups of neighbours, at most `most` groups. @param {Float64Array} weights @param {number} most */
  function grouped(weights, most) {
    const size = Math.ceil(weights.length / most);
    const sums = new Array(Math.ceil(weights.length / size)).fill(0);
    weights.forEach((weight, place) => (sums[Math.floor(place / size)] += weight));
    return { size, sums };
  }

  /** The places of the largest numbers, largest first. @param {ArrayLike<number>} values @param {number} most */
  const largest = (values, most) => {
    const places = Array.from({ length: values.length }, (_, place) => place);
    return places.sort((one, other) => values[other] - values[one]).slice(0, most);
  };

  /** @param {BytePairTable} table @param {PageModel[]} models @param {HTMLElement} root @param {any} data */
  function make(table, models, root, data) {
    const { element, plain, percent } = Widgets;
    const methods = models.map(({ method }) => ({ title: data.titles[method], colour: `var(--method-${method})` }));
    const { layers, heads } = models[0];
    const colour = (/** @type {number} */ at) => methods[at].colour;
    const L = data.length;
    const reader = Reader.make(models, { draw, worked });
    const state = { times: WINDOWS, place: WINDOWS * L, layer: layers - 1, head: heads - 1 };
    /** Perplexities of this text by window, in multiples of L. @type {Map<number, number[]>} */
    let found = new Map();
    let all = 0;

    const texts = Widgets.choice({
      label: "text", options: data.texts.map((/** @type {{title: string}} */ { title }, /** @type {number} */ at) => [String(at), title]),
      value: ["0"], change: ([value]) => replace(data.texts[Number(value)].text),
    });
    const box = element("textarea", { rows: 5, spellcheck: "false", "aria-label": "the text: pick one, or type your own" });
    const times = Widgets.slider({
      label: "window", min: 1, max: WINDOWS, value: state.times, show: (many) => `${many} L = ${plain(many * L)}`,
      change: (value) => {
        state.times = value;
        start();
      },
    });
    const place = Widgets.slider({
      label: "after token", min: 0, max: 1, value: 0, show: plain,
      change: (value) => {
        state.place = value;
        draw();
      },
    });
    const layer = Widgets.slider({ label: "layer", min: 1, max: layers, value: layers, change: (value) => look({ layer: value - 1 }) });
    const head = Widgets.slider({ label: "head", min: 1, max: heads, value: heads, change: (value) => look({ head: value - 1 }) });
    const bar = element("progress", { max: 1, value: 0, "aria-label": "tokens read" });
    const status = element("span", {});
    const names = methods.flatMap(({ title }) => [`${title}: perplexity`, `${title}: past L`]);
    const told = Widgets.numbers(names);
    const [curves, windows, words] = [element("div"), element("div"), element("div", { class: "widget-pair" })];
    const excerpt = element("p", { class: "widget-excerpt" });
    const looks = methods.map(() => element("div"));
    const notes = methods.map(() => element("p", { class: "widget-note" }));
    const attention = element("div", { class: "widget-pair" }, ...methods.map((_, at) => element("div", {}, looks[at], notes[at])));
    root.append(element("p", { class: "widget-note" }, data.told), texts, box, times.row, place.row);
    root.append(element("p", { class: "widget-progress" }, bar, status), told.list);
    const key = methods.map(({ title }, at) => element("span", { style: `--swatch: ${colour(at)}` }, title));
    root.append(element("p", { class: "widget-key" }, ...key));
    root.append(element("div", { class: "widget-pair" }, curves, windows), excerpt, words);
    root.append(element("div", { class: "widget-sliders" }, layer.row, head.row), attention);
    for (const row of [times.row, place.row]) row.classList.add("widget-wide");
    box.addEventListener("input", () => {
      for (const input of texts.querySelectorAll("input")) input.checked = false;
      read();
    });

    /** @param {string} text */
    function replace(text) {
      box.value = text;
      read();
    }

    /** Takes the text in the box. */
    function read() {
      const tokens = BytePairs.encode(table, box.value);
      all = tokens.length;
      found = new Map();
      const readings = reader.readings();
      const before = readings.length ? readings[0].tokens.length - 1 : state.place;
      start([0, ...tokens.slice(0, WINDOWS * L - 1)]);
      const last = reader.readings()[0].tokens.length - 1;
      // Who looked behind the last token goes on doing so.
      if (state.place >= before) state.place = last;
      draw();
    }

    /** @param {number[]} [sources] */
    const start = (sources = reader.readings()[0].tokens) => reader.start(sources, state.times * L);

    function worked() {
      const values = reader.readings().map(({ losses, window }) => Reader.perplexity(losses, window));
      // An empty text has none.
      if (!reader.busy() && values.every(Number.isFinite)) found.set(state.times, values);
      bar.value = reader.share();
    }

    /** @param {Partial<typeof state>} change */
    function look(change) {
      Object.assign(state, change);
      draw();
    }

    /** A token as a reader sees it. @param {number} token */
    const piece = (token) => (token ? BytePairs.decode(table, [token]).replace(/^ /, "·") : "¶");

    function draw() {
      const readings = reader.readings();
      if (!readings.length) return replace(data.texts[0].text);
      const { tokens, window } = readings[0];
      state.place = Math.min(state.place, tokens.length - 1);
      place.set(state.place, tokens.length - 1);
      told.list.setAttribute("aria-busy", String(reader.busy()));
      const values = readings.flatMap(({ losses }) => [Reader.perplexity(losses, window), Reader.perplexity(losses, window, L)]);
      told.tell(values.map((value) => plain(value)));
      status.textContent = reader.told(all);
      Reader.chart(curves, readings, { L, methods, height: 300 }).mark(state.place, "", { width: 1.5, dash: "5 3" });
      drawWindows();
      if (readings.every(({ done }) => done > state.place)) drawPlace(readings);
    }

    function drawWindows() {
      const values = [...found.values()].flat();
      const [low, high] = values.length ? [0.9 * Math.min(...values), 1.1 * Math.max(...values)] : [100, 1000];
      const sheet = Widgets.chart(windows, {
        x: { low: 0.9, high: 18, log: true, ticks: [1, 2, 4, 8, 16], label: "window / L, as far as you have tried" },
        y: { low, high, log: true, label: "perplexity" }, height: 300, title: "The same text in each window",
        told: [...found].map(([many, both]) => `${many} L: ${methods.map(({ title }, at) => `${title} ${plain(both[at])}`).join(", ")}`).join(". ")
          || "No window is read yet",
      });
      sheet.mark(1, "trained at L");
      methods.forEach((_, at) => {
        const points = [...found].sort(([one], [other]) => one - other).map(([many, both]) => /** @type {Point} */ ([many, both[at]]));
        sheet.line(points, { colour: colour(at), width: 2 });
        for (const point of points) sheet.dot(point, { colour: colour(at) });
      });
    }

    /** The next words and the attention at the place that is looked at. @param {Reading[]} readings */
    function drawPlace(readings) {
      const { tokens, window } = readings[0];
      const next = tokens[state.place + 1];
      const before = BytePairs.decode(table, tokens.slice(Math.max(1, state.place - 24), state.place + 1));
      excerpt.replaceChildren("What comes after “… ", element("b", {}, before.slice(-90)), "”?");
      const ahead = readings.map((reading) => Decoder.logProbabilities(reading, state.place));
      const likeliest = ahead.map((row) => largest(row, WORDS));
      const top = Math.exp(Math.max(...likeliest.map(([token], at) => ahead[at][token])));
      words.replaceChildren(
        ...ahead.map((row, at) => {
          /** @param {number} token @param {string} name */
          const line = (token, name) => {
            const share = Math.exp(row[token]);
            const style = `--share: ${(100 * share) / top}%; --swatch: ${colour(at)}`;
            return element("tr", { style }, element("th", { scope: "row" }, name), element("td", { class: "widget-share" }, percent(share)));
          };
          const rows = likeliest[at].map((token) => line(token, piece(token)));
          if (next !== undefined) rows.push(line(next, `in the text: ${piece(next)}`));
          const caption = element("caption", {}, `${methods[at].title}: the most probable next tokens`);
          return element("table", { class: "widget-table widget-tokens" }, caption, element("tbody", {}, ...rows));
        }),
      );
      const rows = readings.map((reading) => Decoder.attention(reading, state.layer, state.head, state.place));
      const groups = rows.map((weights) => grouped(weights, BARS));
      const highest = 1.05 * Math.max(...groups.flatMap(({ sums }) => sums));
      rows.forEach((weights, at) => {
        const { size, sums } = groups[at];
        const from = state.place - (state.place % window);
        const near = weights.slice(-L).reduce((sum, weight) => sum + weight, 0);
        const [most] = largest(weights, 1);
        const back = weights.length - 1 - most;
        const where = back ? `${plain(back)} token${back > 1 ? "s" : ""} back` : "the last token itself";
        notes[at].textContent = `${percent(near)} of the weight on the last ${plain(Math.min(L, weights.length))} tokens; most on `
          + `“${piece(tokens[from + most])}”, ${where}: ${percent(weights[most])}.`;
        const sheet = Widgets.chart(looks[at], {
          x: { low: from, high: from + Math.max(2, weights.length), label: "token that is looked at" },
          y: { low: 0, high: highest, label: size > 1 ? `weight, ${size} a bar` : "weight" }, height: 210,
          title: `${methods[at].title}, layer ${state.layer + 1}, head ${state.head + 1}`, told: notes[at].textContent,
        });
        sums.forEach((sum, bin) => {
          const edge = Math.min(from + weights.length, from + (bin + 1) * size);
          sheet.bar(from + bin * size, edge, 0, sum, { colour: colour(at) });
        });
        if (weights.length > L) sheet.mark(from + weights.length - L, "last L");
      });
    }
    return draw;
  }

  /** @param {HTMLElement} root */
  async function begin(root) {
    try {
      const { table, models } = await Reader.files(["alibi", "sinusoidal"]);
      Widgets.add("try-it", "Try it: two models in this page", (root, data) => make(table, models, root, data));
    } catch (wrong) {
      root.hidden = false;
      root.append(/** @type {Error} */ (wrong).message);
    }
  }

  const root = typeof document !== "undefined" && document.querySelector('[data-widget="try-it"]');
  if (root) begin(/** @type {HTMLElement} */ (root));
  return { grouped, largest };
})();

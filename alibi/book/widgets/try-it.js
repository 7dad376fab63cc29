/** Try it: two trained models read the reader's text in the page, in windows from L to 16 L. */
"use strict";

const TryIt = (() => {
  const WINDOWS = 16;
  // Milliseconds of work between which the page answers, and from one drawing to the next.
  const [SLICE, FRAME] = [20, 120];
  const [WORDS, BARS, POINTS] = [6, 128, 64];

  /** The mean of the numbers there are in each stretch of `size`. @param {Float64Array} values @param {number} size */
  function means(values, size) {
    /** @type {Point[]} */
    const found = [];
    for (let start = 0; start < values.length; start += size) {
      const there = values.subarray(start, start + size).filter((value) => !Number.isNaN(value));
      if (there.length) found.push([start + there.length / 2, there.reduce((sum, value) => sum + value, 0) / there.length]);
    }
    return found;
  }

  /**
   * exp of the mean loss of the tokens at positions from `first` (counted from 0) on in their windows.
   * @param {Float64Array} losses @param {number} window @param {number} [first]
   */
  function perplexity(losses, window, first = 0) {
    const there = losses.filter((loss, place) => !Number.isNaN(loss) && place % window >= first);
    return there.length ? Math.exp(there.reduce((sum, loss) => sum + loss, 0) / there.length) : NaN;
  }

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
    const methods = models.map(({ method }) => ({ name: method, title: data.titles[method] }));
    const { layers, heads } = models[0];
    const colour = (/** @type {number} */ at) => `var(--method-${methods[at].name})`;
    const L = data.length;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const state = { times: WINDOWS, place: WINDOWS * L, layer: layers - 1, head: heads - 1 };
    /** @type {Reading[]} */
    let readings = [];
    /** Perplexities of this text by window, in multiples of L. @type {Map<number, number[]>} */
    let found = new Map();
    let [timer, drawn, spent, steps, all] = [0, 0, 0, 0, 0];

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

    /** Takes the text in the box; what it shares with the one before is not read again. */
    function read() {
      const tokens = BytePairs.encode(table, box.value);
      all = tokens.length;
      found = new Map();
      const before = readings.length ? readings[0].tokens.length - 1 : state.place;
      start([0, ...tokens.slice(0, WINDOWS * L - 1)]);
      // Who looked behind the last token goes on doing so.
      if (state.place >= before) state.place = readings[0].tokens.length - 1;
      draw();
    }

    /** @param {number[]} [sources] */
    function start(sources = readings[0].tokens) {
      readings = models.map((model, at) => Decoder.reading(model, sources, state.times * L, readings[at]));
      [spent, steps] = [0, 0];
      timer ||= setTimeout(slice);
    }

    const left = () => readings.filter(({ done, tokens }) => done < tokens.length);

    function slice() {
      timer = 0;
      const begun = performance.now();
      if (!left().length || (!still && begun > drawn + FRAME)) {
        draw();
        drawn = performance.now();
        if (left().length) timer = setTimeout(slice);
        return;
      }
      while (left().length && performance.now() < begun + SLICE) {
        const behind = left().sort((one, other) => one.done - other.done)[0];
        const before = behind.done;
        Decoder.step(behind);
        steps += behind.done - before;
      }
      spent += performance.now() - begun;
      if (!left().length) found.set(state.times, readings.map(({ losses, window }) => perplexity(losses, window)));
      bar.value = Math.min(...readings.map(({ done }) => done)) / readings[0].tokens.length;
      timer = setTimeout(slice);
    }

    /** @param {Partial<typeof state>} change */
    function look(change) {
      Object.assign(state, change);
      draw();
    }

    /** A token as a reader sees it. @param {number} token */
    const piece = (token) => (token ? BytePairs.decode(table, [token]).replace(/^ /, "·") : "¶");

    function draw() {
      if (!readings.length) return replace(data.texts[0].text);
      const { tokens, window } = readings[0];
      const count = tokens.length;
      state.place = Math.min(state.place, count - 1);
      place.set(state.place, count - 1);
      told.list.setAttribute("aria-busy", String(Boolean(left().length)));
      const values = readings.flatMap(({ losses }) => [perplexity(losses, window), perplexity(losses, window, L)]);
      told.tell(values.map((value) => plain(value)));
      const speed = spent ? `; ${plain((1000 * steps) / spent, 2)} tokens/s` : "";
      const cut = all >= count ? `, of ${plain(all)}: the rest is left out` : "";
      status.textContent = `${left().length ? "reading" : "read"} ${plain(count - 1)} tokens${cut}${speed}`;
      drawLosses(count, window);
      drawWindows();
      if (readings.every(({ done }) => done > state.place)) drawPlace();
    }

    /** @param {number} count @param {number} window */
    function drawLosses(count, window) {
      const lines = readings.map(({ losses }) => means(losses, Math.max(1, Math.ceil(count / POINTS))));
      const values = lines.flatMap((points) => points.map(([, loss]) => loss));
      const y = { low: Math.min(4, Math.floor(Math.min(...values))), high: Math.max(7, Math.ceil(Math.max(...values))), label: "loss (nats)" };
      const sheet = Widgets.chart(curves, {
        x: { low: 0, high: count, label: "token of the text" }, y, height: 300, title: `Loss in windows of ${plain(window)}`,
        told: methods.map(({ title }, at) => `${title}: perplexity ${plain(perplexity(readings[at].losses, window))}`).join(". "),
      });
      for (let first = 0; first < count; first += window) {
        if (first + L < count && window > L) sheet.bar(first + L, Math.min(first + window, count), y.low, y.high, { opacity: 0.07 });
        if (first) sheet.mark(first, "", { width: 0.7, opacity: 0.6 });
      }
      if (window > L && count > L) sheet.mark(L, "past L");
      lines.forEach((points, at) => sheet.line(points, { colour: colour(at), width: 2.2 }));
      sheet.mark(state.place, "", { width: 1.5, dash: "5 3" });
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

    /** The next words and the attention at the place that is looked at. */
    function drawPlace() {
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

  /** Adds a file of the site to the page. @param {string} name @returns {Promise<void>} */
  const load = (name) =>
    new Promise((loaded, failed) => {
      const script = Widgets.element("script", { src: `_static/models/${name}.js` });
      script.addEventListener("load", () => loaded());
      script.addEventListener("error", () => failed(new Error(`${script.src} is missing`)));
      document.head.append(script);
    });

  /** @param {HTMLElement} root */
  async function begin(root) {
    try {
      const models = ["alibi", "sinusoidal"].map((name) => load(name).then(() => Decoder.model(Decoder.files[name])));
      await load("vocabulary");
      const table = BytePairs.table(BytePairs.files.vocabulary);
      const both = await Promise.all(models);
      Widgets.add("try-it", "Try it: two models in this page", (root, data) => make(table, both, root, data));
    } catch (wrong) {
      root.hidden = false;
      root.append(`The models are not part of this copy of the book: ${wrong}. The command make book makes them.`);
    }
  }

  const root = typeof document !== "undefined" && document.querySelector('[data-widget="try-it"]');
  if (root) begin(/** @type {HTMLElement} */ (root));
  return { means, perplexity, grouped, largest };
})();

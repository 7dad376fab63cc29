/** Two trained models that read a text in the page: their files, their work in slices, and the chart of their losses. */
"use strict";

const Reader = (() => {
  // Milliseconds of work between which the page answers, and from one drawing to the next.
  const [SLICE, FRAME] = [20, 120];
  const POINTS = 64;

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

  /** Adds a file of the site to the page. @param {string} name @returns {Promise<void>} */
  const load = (name) =>
    new Promise((loaded, failed) => {
      const script = Widgets.element("script", { src: `_static/models/${name}.js` });
      script.addEventListener("load", () => loaded());
      script.addEventListener("error", () => failed(new Error(`${script.src} is missing`)));
      document.head.append(script);
    });

  /** The byte pairs and the models of these methods, once their files are loaded. @param {string[]} methods */
  async function files(methods) {
    try {
      const loaded = methods.map((name) => load(name).then(() => Decoder.model(Decoder.files[name])));
      const [models] = await Promise.all([Promise.all(loaded), load("vocabulary")]);
      return { table: BytePairs.table(BytePairs.files.vocabulary), models };
    } catch (wrong) {
      throw new Error(`The models can't be loaded: ${wrong}. In a copy of the book without them, make book makes them.`);
    }
  }

  /**
   * Reads with each model in turn, the one that is behind first.
   * @param {PageModel[]} models
   * @param {{draw: () => void, worked?: () => void}} tell `draw` shows what is new; `worked` follows each slice of work
   *   and comes before the last `draw`.
   */
  function make(models, { draw, worked = () => {} }) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    /** @type {Reading[]} */
    let readings = [];
    let [timer, drawn, spent, steps] = [0, 0, 0, 0];
    const left = () => readings.filter(({ done, tokens }) => done < tokens.length);

    function slice() {
      timer = 0;
      const begun = performance.now();
      if (!left().length || (!still && begun > drawn + FRAME)) {
        if (!left().length) worked(); // Also where nothing was left to read.
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
      worked();
      timer = setTimeout(slice);
    }

    return {
      /** Begins anew; what the tokens share with those before is not read again. @param {number[]} sources
       * @param {number} window */
      start(sources, window) {
        readings = models.map((model, at) => Decoder.reading(model, sources, window, readings[at]));
        [spent, steps] = [0, 0];
        timer ||= setTimeout(slice);
      },
      readings: () => readings,
      busy: () => left().length > 0,
      share: () => Math.min(...readings.map(({ done }) => done)) / readings[0].tokens.length,
      /** What is done, of a text of `all` tokens. @param {number} all */
      told(all) {
        const count = readings[0].tokens.length;
        const cut = all >= count ? `, of ${Widgets.plain(all)}: the rest is left out` : "";
        const speed = spent ? `; ${Widgets.plain((1000 * steps) / spent, 2)} tokens/s` : "";
        return `${left().length ? "reading" : "read"} ${Widgets.plain(count - 1)} tokens${cut}${speed}`;
      },
    };
  }

  /**
   * The loss of each model along the text, as means of stretches of it; what lies past L in its window is shaded.
   * @param {HTMLElement} box @param {Reading[]} readings
   * @param {{L: number, methods: {title: string, colour: string}[], height: number}} look
   */
  function chart(box, readings, { L, methods, height }) {
    const { tokens, window } = readings[0];
    const count = tokens.length;
    const lines = readings.map(({ losses }) => means(losses, Math.max(1, Math.ceil(count / POINTS))));
    const values = lines.flatMap((points) => points.map(([, loss]) => loss));
    const y = { low: Math.min(4, Math.floor(Math.min(...values))), high: Math.max(7, Math.ceil(Math.max(...values))), label: "loss (nats)" };
    const sheet = Widgets.chart(box, {
      x: { low: 0, high: count, label: "token of the text" }, y, height, title: `Loss in windows of ${Widgets.plain(window)}`,
      told: methods.map(({ title }, at) => `${title}: perplexity ${Widgets.plain(perplexity(readings[at].losses, window))}`).join(". "),
    });
    for (let first = 0; first < count; first += window) {
      if (first + L < count && window > L) sheet.bar(first + L, Math.min(first + window, count), y.low, y.high, { opacity: 0.07 });
      if (first) sheet.mark(first, "", { width: 0.7, opacity: 0.6 });
    }
    if (window > L && count > L) sheet.mark(L, "past L");
    lines.forEach((points, at) => sheet.line(points, { colour: methods[at].colour, width: 2.2 }));
    return sheet;
  }

  return { means, perplexity, files, make, chart };
})();

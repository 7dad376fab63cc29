/** Drowned by the far: the attention that a window's far keys take, with a T5 table and with ALiBi's slope. */
"use strict";

const Drowned = (() => {
  /**
   * The weight of all nearer keys together: each bucket's weight as often as it has distances.
   * @param {number[]} table a head's bias of each bucket, the last one for all far keys @param {number[]} widths
   */
  const near = (table, widths) => widths.reduce((sum, width, bucket) => sum + width * Math.exp(table[bucket]), 0);

  /**
   * The bias that would give the nearer keys the same weight together if all of them had it.
   * @param {number[]} table @param {number[]} widths
   */
  const level = (table, widths) => Math.log(near(table, widths) / start(widths));

  /** The least far distance. @param {number[]} widths */
  const start = (widths) => widths.reduce((sum, width) => sum + width, 0);

  /**
   * The share of the far keys with equal scores, by the T5 bias with this number in its last bucket.
   * @param {number[]} table @param {number[]} widths @param {number} last @param {number} keys
   */
  function t5(table, widths, last, keys) {
    const far = Math.max(0, keys - start(widths)) * Math.exp(last);
    return far / (near(table, widths) + far);
  }

  /**
   * The share of keys at distance `from` or more with equal scores, by ALiBi: two geometric series.
   * @param {number} slope @param {number} from @param {number} keys
   */
  const alibi = (slope, from, keys) =>
    keys <= from ? 0 : (Math.exp(-slope * from) * Math.expm1(-slope * (keys - from))) / Math.expm1(-slope * keys);

  /** What that share tends to as the window grows. @param {number} slope @param {number} from */
  const limit = (slope, from) => Math.exp(-slope * from);

  Widgets.add("drowned", "Drowned by the far", (root, data) => {
    const { element, plain, percent } = Widgets;
    /** @type {number[][]} */
    const tables = data.table;
    /** @type {number[]} */
    const widths = data.widths;
    const from = start(widths);
    const flat = [...widths.map(() => 0), 0];
    const names = ["T5 bias", "ALiBi", "no bias"];
    const colours = ["var(--method-t5)", "var(--method-alibi)", "var(--pst-color-text-muted)"];
    const [low, high] = [7, 19];
    const most = 2 ** high;
    /** The last bucket's number above the level of the nearer keys. @param {number[]} of */
    const above = (of) => of[widths.length] - level(of, widths);
    // The head that resists the most.
    const lowest = tables.map(above).reduce((best, number, place, all) => (number < all[best] ? place : best), 0);
    const state = { head: String(lowest), last: above(tables[lowest]), slope: data.slope, keys: data.keys };
    const table = () => (state.head === "flat" ? flat : tables[Number(state.head)]);

    const heads = tables.map((_, place) => /** @type {[string, string]} */ ([String(place), String(place + 1)]));
    const head = Widgets.choice({
      label: "T5 bias of trained head", value: [state.head],
      options: [...heads, ["flat", "none: all 0"]].map(([name, text]) => [name, text, colours[0]]),
      change: ([value]) => update({ head: value, last: above(value === "flat" ? flat : tables[Number(value)]) }),
    });
    const keys = Widgets.slider({
      label: "window (tokens)", min: 4 * low, max: 4 * high, value: Math.round(4 * Math.log2(state.keys)),
      show: () => plain(state.keys), // Of the chapter's parameters, it may lie between two places.
      change: (place) => update({ keys: Math.round(2 ** (place / 4)) }),
    });
    const last = Widgets.slider({
      label: "last bucket (nats)", min: -8, max: 2, step: 0.05, value: state.last,
      show: () => plain(Number(state.last.toFixed(2))),
      change: (value) => update({ last: value }),
    });
    const slope = Widgets.slider({
      label: "ALiBi: slope m", min: 1, max: data.slopes.length, value: state.slope + 1,
      show: (place) => `1/${plain(1 / data.slopes[place - 1])}`,
      change: (place) => update({ slope: place - 1 }),
    });
    const parts = names.map((_, place) => element("i", { style: `background: ${colours[place]}` }));
    const shares = names.map(() => element("output"));
    const bars = element("div", { class: "widget-shares" });
    names.forEach((name, place) => {
      bars.append(element("span", {}, name), element("div", {}, parts[place]), shares[place]);
    });
    const told = Widgets.numbers(["far keys", "T5 tends to", "T5 reaches 50 % at", "ALiBi tends to"]);
    const [biases, curves] = [element("div"), element("div")];
    const title = element("p", { class: "widget-told" });
    root.append(head, element("div", { class: "widget-sliders" }, keys.row, last.row, slope.row), title, bars);
    root.append(element("div", { class: "widget-pair" }, biases, curves), told.list);

    /** @param {Partial<typeof state>} change */
    function update(change) {
      Object.assign(state, change);
      last.set(state.last);
      keys.set(Math.round(4 * Math.log2(state.keys)));
      draw();
    }

    function draw() {
      const m = data.slopes[state.slope];
      const bucket = state.last + level(table(), widths);
      /** @type {((keys: number) => number)[]} */
      const share = [
        (many) => t5(table(), widths, bucket, many),
        (many) => alibi(m, from, many),
        (many) => Math.max(0, 1 - from / many),
      ];
      const now = share.map((of) => of(state.keys));
      title.textContent = `Attention to keys ${from} or more back, in a window of ${plain(state.keys)} tokens:`;
      now.forEach((part, place) => {
        parts[place].style.width = `${100 * part}%`;
        shares[place].textContent = percent(part);
      });
      told.tell([
        plain(Math.max(0, state.keys - from)), "100 %",
        `${plain(from + Math.ceil(from * Math.exp(-state.last)))} tokens`, percent(limit(m, from)),
      ]);
      drawBiases(m);
      const said = names.map((name, place) => `${name} ${percent(now[place])}`).join(", ");
      const sheet = Widgets.chart(curves, {
        x: { low: 2 ** low, high: most, log: true, label: "window (tokens)", ticks: [128, 1024, 8192, 65536] },
        y: { low: 0, high: 1.02, ticks: [0, 0.25, 0.5, 0.75, 1], show: (tick) => `${100 * tick} %` }, height: 260,
        title: `Attention ${from} or more back`, told: `Share of far keys at ${plain(state.keys)} tokens: ${said}.`,
      });
      sheet.line([[2 ** low, limit(m, from)], [most, limit(m, from)]], { colour: colours[1], width: 1.5, dash: "2 4" });
      sheet.mark(state.keys, "", { width: 1.5 });
      for (const place of [2, 1, 0]) {
        const points = Array.from({ length: 97 }, (_, step) => 2 ** (low + (step * (high - low)) / 96));
        const look = { colour: colours[place], width: place === 2 ? 2 : 3 };
        sheet.line(points.map((many) => /** @type {Point} */ ([many, share[place](many)])), look);
        sheet.dot([state.keys, now[place]], look);
      }
    }

    /** Both biases by distance, T5's from the level of its nearer keys. @param {number} m */
    function drawBiases(m) {
      const numbers = [...table().slice(0, -1).map((number) => number - level(table(), widths)), state.last];
      const end = Math.round(1.5 * from);
      const sheet = Widgets.chart(biases, {
        x: { low: 0, high: end, label: "distance (tokens)", ticks: [0, 16, 64, from] },
        y: { low: Math.min(-4, ...numbers) - 0.3, high: Math.max(1, ...numbers) + 0.3, label: "bias (nats)" },
        height: 260, title: "Bias by distance",
        told: `Bias of the far keys: T5 ${plain(state.last)} nats; ALiBi falls by 1/${plain(1 / m)} per token.`,
      });
      sheet.mark(from, "last bucket");
      /** @type {Point[]} */
      const steps = [];
      [...widths, end - from].reduce((at, width, place) => {
        steps.push([at, numbers[place]], [at + width, numbers[place]]);
        return at + width;
      }, 0);
      sheet.line([[0, 0], [end, -m * end]], { colour: colours[1], width: 3 });
      sheet.line(steps, { colour: colours[0], width: 3 });
    }
    return draw;
  });

  return { near, level, start, t5, alibi, limit };
})();

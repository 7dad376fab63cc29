/** The ALiBi dial: what a head's slope does to its bias and its attention weights, with equal scores. */
"use strict";

const Dial = (() => {
  /**
   * Each head's slope by the official rule, as `alibi.positions.slopes`.
   * @param {number} heads
   * @returns {number[]}
   */
  function slopes(heads) {
    const power = 2 ** Math.floor(Math.log2(heads));
    const first = Array.from({ length: power }, (_, head) => 2 ** ((-8 * (head + 1)) / power));
    if (power === heads) return first;
    const between = slopes(2 * power).filter((_, head) => head % 2 === 0);
    return [...first, ...between.slice(0, heads - power)];
  }

  /**
   * The T5 bucket of a distance, as `alibi.positions.t5.bucket`, in float32 as there.
   * @param {number} distance
   */
  function bucket(distance) {
    if (distance < 16) return distance;
    const ratio = Math.fround(Math.fround(Math.log(Math.fround(distance / 16))) / Math.fround(Math.log(8)));
    return Math.min(31, 16 + Math.floor(Math.fround(ratio * 16)));
  }

  /**
   * What the form adds to the score of a key at this distance.
   * @param {string} form @param {number} slope @param {number} distance @param {number} window
   * @param {number[]} buckets the head's learned numbers
   */
  function bias(form, slope, distance, window, buckets) {
    if (form === "alibi-quadratic") return -slope * distance * distance;
    if (form === "alibi-logarithmic") return -slope * Math.log2(1 + distance);
    if (form === "t5") return buckets[bucket(distance)];
    if (form === "window") return distance < window ? 0 : -Infinity;
    return -slope * distance;
  }

  /**
   * The weight so far of the nearest 1, 2, ... keys of a query that has so many, with equal scores.
   * @param {(distance: number) => number} added @param {number} keys
   */
  function soFar(added, keys) {
    const weights = new Float64Array(keys);
    let highest = -Infinity;
    for (let distance = 0; distance < keys; distance++) highest = Math.max(highest, added(distance));
    let sum = 0;
    for (let distance = 0; distance < keys; distance++) {
      sum += Math.exp(added(distance) - highest);
      weights[distance] = sum;
    }
    return weights.map((weight) => weight / sum);
  }

  /** How many of the nearest keys hold this share. @param {Float64Array} sums @param {number} share */
  const nearest = (sums, share) => sums.findIndex((sum) => sum >= share) + 1;

  /** The share of the weight on keys beyond the nearest `length`. @param {Float64Array} sums @param {number} length */
  const beyond = (sums, length) => (length >= sums.length ? 0 : 1 - sums[length - 1]);

  Widgets.add("dial", "The ALiBi dial", (root, data) => {
    const { element, percent, plain } = Widgets;
    const state = { heads: data.heads, head: Math.min(3, data.heads), length: 4096, query: 4096, form: "alibi" };
    /** @type {[string, string][]} */
    const forms = [
      ["alibi", "linear (ALiBi)"],
      ["alibi-logarithmic", "logarithmic"],
      ["alibi-quadratic", "quadratic"],
      ["t5", "T5, trained"],
      ["window", "window of L"],
    ];
    const colour = () => `var(--method-${state.form})`;
    // The trained T5 bias has its own number of heads; `state` keeps the reader's.
    const count = () => (state.form === "t5" ? data.t5.length : state.heads);
    const slopeOf = () => slopes(count())[state.head - 1];
    const sizes = { min: 4, max: 16, show: (/** @type {number} */ power) => plain(2 ** power) };

    const heads = Widgets.slider({
      label: "heads n", min: 1, max: Math.max(64, data.heads), value: state.heads,
      change: (value) => update({ heads: value, head: Math.min(state.head, value) }),
    });
    const head = Widgets.slider({
      label: "head h", min: 1, max: state.heads, value: state.head,
      change: (value) => update({ head: value }),
    });
    const length = Widgets.slider({
      label: "text (tokens)", ...sizes, value: 12,
      change: (value) => update({ length: 2 ** value, query: 2 ** value }),
    });
    const query = Widgets.slider({
      label: "query at", min: 1, max: state.length, value: state.query, show: plain,
      change: (value) => update({ query: value }),
    });
    const form = Widgets.choice({
      label: "growth of the penalty",
      options: forms.map(([name, text]) => [name, text, `var(--method-${name})`]),
      value: [state.form],
      change: ([value]) => update({ form: value }),
    });
    const told = Widgets.numbers([
      "slope m", "reach 1/m", "50 % of the weight", "90 %", "99 %", `beyond L = ${plain(data.train_length)}`,
    ]);
    const [row, share] = [element("div"), element("div")];
    const charts = element("div", { class: "widget-pair" }, row, share);
    root.append(form, element("div", { class: "widget-sliders" }, heads.row, head.row, length.row, query.row));
    root.append(charts, told.list);

    /** @param {Partial<typeof state>} change */
    function update(change) {
      Object.assign(state, change);
      state.head = Math.min(state.head, count());
      heads.set(count());
      heads.input.disabled = state.form === "t5";
      head.set(state.head, count());
      query.set(state.query, state.length);
      draw();
    }

    function draw() {
      const [slope, keys] = [slopeOf(), state.query];
      /** @param {number} of @param {number} index */
      const adder = (of, index) => (/** @type {number} */ distance) =>
        bias(state.form, of, distance, data.train_length, data.t5[index % data.t5.length]);
      const added = adder(slope, state.head - 1);
      const sums = soFar(added, keys);
      const reach = [0.5, 0.9, 0.99].map((part) => nearest(sums, part));
      const one = state.form === "window" ? "none" : `1/${plain(1 / slope)}`;
      const learned = state.form === "t5";
      told.tell([
        learned ? "learned" : one, learned || one === "none" ? "–" : plain(1 / slope),
        ...reach.map((many) => `nearest ${plain(many)}`), percent(beyond(sums, data.train_length)),
      ]);
      const title = `Head ${state.head} of ${count()}`;
      const last = Math.min(32, keys);
      const bars = Widgets.chart(row, {
        x: { low: -last + 0.5, high: 0.5, label: "key, from the query", ticks: [-24, -16, -8, 0].filter((t) => t > -last) },
        y: { low: -8, high: learned ? 8 : 0, label: "bias" }, height: 250, title: `${title}: bias of the last ${last} keys`,
        told: `Bias of the last ${last} keys: ${plain(added(last - 1))} at the farthest, ${plain(added(0))} at the query.`,
      });
      for (let distance = 0; distance < last; distance++) {
        const value = Math.max(-9, added(distance));
        bars.bar(-distance - 0.42, -distance + 0.42, 0, value, { colour: colour() });
      }
      const sheet = Widgets.chart(share, {
        x: { low: 1, high: 65536, log: true, label: "nearest keys, the query's own first", show: (tick) => plain(tick) },
        y: { low: 0, high: 1.02, label: "share", ticks: [0, 0.5, 0.9, 1] }, height: 250,
        title: `${title}: weight so far`,
        told: `The nearest ${reach[0]} keys hold 50 % of the weight, ${reach[1]} hold 90 %, ${reach[2]} hold 99 %.`,
      });
      const all = slopes(count());
      for (let other = 0; other < all.length; other += Math.max(1, Math.floor(all.length / 8))) {
        if (other !== state.head - 1) sheet.line(sampled(soFar(adder(all[other], other), keys)), { width: 1, opacity: 0.35 });
      }
      sheet.mark(data.train_length, "L");
      sheet.line(sampled(sums), { width: 5 });
      sheet.line(sampled(sums), { colour: colour(), width: 3 });
      for (const [place, many] of reach.entries()) sheet.dot([many, [0.5, 0.9, 0.99][place]], { colour: colour() });
    }
    return draw;
  });

  /** Points of a curve that lie evenly on a logarithmic axis. @param {Float64Array} sums */
  function sampled(sums) {
    /** @type {Point[]} */
    const points = [];
    for (let key = 1; key < sums.length; key = Math.max(key + 1, Math.round(key * 1.08))) points.push([key, sums[key - 1]]);
    return [...points, /** @type {Point} */ ([sums.length, sums[sums.length - 1]])];
  }

  return { slopes, bucket, bias, soFar, nearest, beyond };
})();

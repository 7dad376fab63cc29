/** The staircase: attention weights of the nearest keys when the bias is rounded to sixteen bits. */
"use strict";

const Staircase = (() => {
  const SHOWN = 32;

  /** The nearest bfloat16, ties to even, of a float32. @param {number} value */
  function bfloat16(value) {
    const bits = new Uint32Array(new Float32Array([value]).buffer);
    bits[0] += 0x7fff + ((bits[0] >>> 16) & 1);
    bits[0] &= 0xffff0000;
    return new Float32Array(bits.buffer)[0];
  }

  /** The nearest float16, ties to even; infinite from 65,520 on. @param {number} value */
  function float16(value) {
    const size = Math.abs(value);
    if (size === 0 || !Number.isFinite(size)) return value;
    const spacing = 2 ** (Math.max(-14, Math.floor(Math.log2(size))) - 10);
    const steps = size / spacing;
    const below = Math.floor(steps);
    const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1);
    const rounded = (below + (up ? 1 : 0)) * spacing;
    return Math.sign(value) * (rounded >= 65520 ? Infinity : rounded);
  }

  /** @type {Record<string, (value: number) => number>} */
  const ROUNDED = { bfloat16, float16 };

  /**
   * A head's weights for the last of `keys` queries, with equal scores, in float64; the bias alone is rounded, and on
   * the way through float32, as torch does it.
   * @param {number} slope @param {number} keys @param {string} form @param {string} [dtype] none rounds nothing
   */
  function weights(slope, keys, form, dtype) {
    const round = dtype ? ROUNDED[dtype] : null;
    const biases = new Float64Array(keys);
    let highest = -Infinity;
    for (let key = 0; key < keys; key++) {
      const bias = slope * (form === "absolute" ? key : key - (keys - 1));
      biases[key] = round ? round(Math.fround(bias)) : bias;
      highest = Math.max(highest, biases[key]);
    }
    let sum = 0;
    for (let key = 0; key < keys; key++) sum += biases[key] = Math.exp(biases[key] - highest);
    return biases.map((weight) => weight / sum);
  }

  /** The share of the weight that lies on wrong keys. @param {Float64Array} found @param {Float64Array} exact */
  const misplaced = (found, exact) => found.reduce((sum, weight, key) => sum + Math.abs(weight - exact[key]), 0) / 2;

  /**
   * The distance from a number of this size to the next one.
   * @param {number} size @param {string} dtype
   */
  const spacing = (size, dtype) => 2 ** (Math.floor(Math.log2(size)) - (dtype === "bfloat16" ? 7 : 10));

  Widgets.add("staircase", "The staircase of sixteen bits", (root, data) => {
    const { element, plain, percent } = Widgets;
    const state = { keys: data.keys, head: 1, dtype: "bfloat16", form: "absolute" };
    const colours = { absolute: "var(--method-sinusoidal)", relative: "var(--method-alibi)" };
    const place = Widgets.slider({
      label: "query at token", min: 6 * 64, max: 16 * 64, value: Math.round(Math.log2(state.keys) * 64),
      show: () => plain(state.keys),
      change: (value) => update({ keys: Math.round(2 ** (value / 64)) }),
    });
    const head = Widgets.slider({
      label: "head: slope m", min: 1, max: data.slopes.length, value: state.head,
      show: (value) => `${value}: 1/${plain(1 / data.slopes[value - 1])}`,
      change: (value) => update({ head: value }),
    });
    const steps = element("div", { class: "widget-steps" });
    for (const [text, by] of /** @type {[string, number][]} */ ([["one token back", -1], ["one token on", 1]])) {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => update({ keys: Math.min(65536, Math.max(64, state.keys + by)) }));
      steps.append(button);
    }
    const form = Widgets.choice({
      label: "bias",
      options: [["absolute", "m j (official code)", colours.absolute], ["relative", "−m (i − j)", colours.relative]],
      value: [state.form],
      change: ([value]) => update({ form: value }),
    });
    const dtype = Widgets.choice({
      label: "rounded to", options: [["bfloat16", "bfloat16"], ["float16", "float16"]], value: [state.dtype],
      change: ([value]) => update({ dtype: value }),
    });
    const told = Widgets.numbers(["weight on wrong keys", "largest bias", "spacing there"]);
    const bars = element("div");
    root.append(element("div", { class: "widget-choices" }, form, dtype));
    root.append(element("div", { class: "widget-sliders" }, place.row, head.row), steps, bars, told.list);

    /** @param {Partial<typeof state>} change */
    function update(change) {
      Object.assign(state, change);
      if (change.keys) place.set(Math.log2(state.keys) * 64);
      draw();
    }

    function draw() {
      const slope = data.slopes[state.head - 1];
      const { keys, dtype: type } = state;
      const exact = weights(slope, keys, "relative");
      const found = weights(slope, keys, state.form, type);
      const largest = slope * (keys - 1);
      const wrong = misplaced(found, exact);
      const broken = Number.isNaN(wrong);
      told.tell([
        broken ? "no weight is left: the bias overflows" : percent(wrong), plain(largest), plain(spacing(largest, type)),
      ]);
      const last = Math.max(...exact.subarray(keys - SHOWN), ...(broken ? [] : found.subarray(keys - SHOWN)));
      const sheet = Widgets.chart(bars, {
        x: { low: -SHOWN + 0.5, high: 0.5, label: "key, from the query", ticks: [-24, -16, -8, 0] },
        y: { low: 0, high: last * 1.08, label: "attention weight" }, height: 290,
        title: `The last ${SHOWN} of ${plain(keys)} keys`,
        told: `Weights of the last ${SHOWN} of ${keys} keys, exact and rounded: ${percent(wrong)} lie on wrong keys.`,
      });
      /** @type {Point[]} */
      const stairs = [];
      for (let back = SHOWN - 1; back >= 0; back--) {
        const key = keys - 1 - back;
        sheet.bar(-back - 0.42, -back + 0.42, 0, exact[key], { colour: "var(--widget-faint)" });
        if (!broken) stairs.push([-back - 0.5, found[key]], [-back + 0.5, found[key]]);
      }
      sheet.line(stairs, { colour: colours[/** @type {"absolute"} */ (state.form)], width: 2.5 });
      const key = element("p", { class: "widget-key" }, element("span", { class: "exact" }, "exact"));
      key.append(element("span", { class: state.form }, `rounded to ${type}`));
      bars.append(key);
    }
    return draw;
  });

  return { bfloat16, float16, weights, misplaced, spacing };
})();

/** Watch it break: what a window longer than L costs each model, position by position, beside a text as long. */
"use strict";

const Watch = (() => {
  /**
   * What the long window has cost up to a position: the sum of the mean differences of all tokens until there.
   * @param {number[]} means mean difference (nats a token) of each stretch of `stride` positions
   * @param {number} stride @param {number} position
   */
  function soFar(means, stride, position) {
    return means.reduce((sum, mean, place) => sum + mean * Math.min(stride, Math.max(0, position - place * stride)), 0);
  }

  Widgets.add("watch", "Watch it break", (root, data) => {
    const { element, plain } = Widgets;
    /** @type {{name: string, title: string, means: number[], margins: number[]}[]} */
    const methods = data.methods;
    const state = { position: 4 * data.length, shown: methods.map(({ name }) => name) };
    const window = data.pieces.length;
    /**
     * The curve of a mean and so many margins. It leaves zero at L, not at the middle of the stretch before it.
     * @param {number[]} means @param {number[]} margins @param {number} many
     * @returns {Point[]}
     */
    function along(means, margins, many) {
      const points = means.map((mean, place) => [(place + 0.5) * data.stride, mean + many * margins[place]]);
      points.splice(points.findIndex(([at]) => at > data.length), 0, [data.length, 0]);
      return /** @type {Point[]} */ (points);
    }
    /** @param {string} name */
    const colour = (name) => `var(--method-${name})`;
    const cursor = Widgets.slider({
      label: "read up to token", min: 1, max: window, value: state.position, show: plain,
      change: (value) => update({ position: value }),
    });
    const shown = Widgets.choice({
      label: "models", several: true, value: state.shown,
      options: methods.map(({ name, title }) => [name, title, colour(name)]),
      change: (value) => update({ shown: value }),
    });
    const curves = element("div");
    const parts = ["within", "beyond", "now", "rest"].map((part) => element("span", { class: `text-${part}` }));
    const border = element("b", { class: "text-border" });
    const text = element("div", { class: "widget-text", tabindex: 0, role: "region", "aria-label": "the text" });
    text.append(parts[0], border, ...parts.slice(1));
    const told = Widgets.numbers(methods.map(({ title }) => `${title}, so far`));
    cursor.row.classList.add("widget-long");
    const meaning = element("p", { class: "widget-told" }, "So far: what the long window has added up to the cursor, all tokens together.");
    root.append(shown, cursor.row, curves, told.list, meaning, text);

    /** @param {Partial<typeof state>} change */
    function update(change) {
      Object.assign(state, change);
      draw();
    }

    function draw() {
      const { position } = state;
      const costs = methods.map(({ means }) => soFar(means, data.stride, position));
      told.tell(costs.map((cost) => `${cost > 0.05 ? "+" : ""}${plain(Math.abs(cost) < 0.05 ? 0 : Number(cost.toFixed(1)), 4)} nats`));
      const visible = methods.filter(({ name }) => state.shown.includes(name));
      const highest = Math.max(0.1, ...methods.flatMap(({ means }) => means));
      const sheet = Widgets.chart(curves, {
        x: {
          low: 0, high: window, label: "position in the window (tokens)",
          ticks: [0, ...[1, 2, 4, 6, 8].map((many) => many * data.length)].filter((tick) => tick <= window),
        },
        y: { low: Math.min(-0.05, -0.1 * highest), high: 1.12 * highest, label: "loss added (nats)" }, height: 290,
        title: "Loss that the long window adds",
        told: methods.map(({ title }, place) => `${title}: ${plain(costs[place], 3)} nats in all up to token ${position}`).join(". "),
      });
      sheet.line([[0, 0], [window, 0]], { width: 1 });
      sheet.mark(data.length, `trained at L = ${data.length}`);
      sheet.mark(position, "", { width: 1.5 });
      for (const { name, means, margins } of visible) {
        sheet.area(along(means, margins, 1), along(means, margins, -1), { colour: colour(name) });
        sheet.line(along(means, margins, 0), { colour: colour(name), width: 2.5 });
        const place = Math.min(means.length - 1, Math.floor((position - 1) / data.stride));
        sheet.dot([(place + 0.5) * data.stride, means[place]], { colour: colour(name) });
      }
      sheet.drawing.addEventListener("click", (event) => {
        const at = /** @type {MouseEvent} */ (event).clientX - sheet.drawing.getBoundingClientRect().left;
        const share = Math.min(1, Math.max(0, (at - sheet.inside.x) / sheet.inside.width));
        cursor.set(Math.max(1, Math.round(share * window)));
        update({ position: Number(cursor.input.value) });
      });
      const edges = [0, Math.min(position - 1, data.length), position - 1, position, window];
      parts.forEach((part, place) => (part.textContent = data.pieces.slice(edges[place], edges[place + 1]).join("")));
      border.textContent = position > data.length ? ` ${data.length} tokens ` : "";
      text.scrollTop = parts[2].offsetTop - text.clientHeight / 2;
    }
    return draw;
  });

  return { soFar };
})();

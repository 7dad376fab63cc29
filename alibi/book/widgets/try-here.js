/** Try it here: two trained models read a text on the first page, in windows of L, 4 L or 16 L, once they are asked to. */
"use strict";

(() => {
  const WINDOWS = [1, 4, 16];

  Widgets.add("try-here", "Two models read a text here", (root, data) => {
    const { element, plain } = Widgets;
    const names = Object.keys(data.titles);
    const methods = names.map((name) => ({ title: data.titles[name], colour: `var(--method-${name})` }));
    const L = data.length;
    let [times, all] = [Math.max(...WINDOWS), 0];
    /** @type {ReturnType<typeof Reader.make> | undefined} */
    let reader;
    /** @type {BytePairTable} */
    let table;

    const box = element("textarea", { rows: 4, spellcheck: "false", "aria-label": "the text: read this one, or type your own" });
    box.value = data.text;
    const windows = Widgets.choice({
      label: "window", value: [String(times)],
      options: WINDOWS.map((many) => [String(many), many === 1 ? `L = ${plain(L)} tokens` : `${many} L = ${plain(many * L)}`]),
      change: ([value]) => {
        times = Number(value);
        read();
      },
    });
    const button = element("button", { type: "button" });
    const status = element("span", { role: "status" });
    const told = Widgets.numbers(methods.flatMap(({ title }) => [`${title}: perplexity`, `${title}: past L`]));
    const curves = element("div");
    const key = methods.map(({ title, colour }) => element("span", { style: `--swatch: ${colour}` }, title));
    const result = element("div", { hidden: true }, told.list, element("p", { class: "widget-key" }, ...key), curves);
    root.append(element("p", { class: "widget-note" }, data.told), box, windows);
    root.append(element("p", { class: "widget-progress widget-steps" }, button, status), result);
    box.addEventListener("input", read);
    button.addEventListener("click", async () => {
      button.disabled = true;
      status.textContent = "loading";
      try {
        const files = await Reader.files(names);
        table = files.table;
        reader = Reader.make(files.models, { draw });
        button.hidden = true;
        result.hidden = false;
        read();
      } catch (wrong) {
        status.textContent = /** @type {Error} */ (wrong).message;
        button.disabled = false;
      }
    });

    /** Takes the text in the box and the window. */
    function read() {
      if (!reader) return draw();
      const tokens = BytePairs.encode(table, box.value);
      all = tokens.length;
      reader.start([0, ...tokens.slice(0, Math.max(...WINDOWS) * L - 1)], times * L);
      draw();
    }

    function draw() {
      button.textContent = `Load both models (at most ${plain(data.bytes / 1e6)} MB) and read in windows of ${plain(times * L)} tokens`;
      if (!reader) return;
      const readings = reader.readings();
      const window = readings[0].window;
      told.list.setAttribute("aria-busy", String(reader.busy()));
      told.tell(readings.flatMap(({ losses }) => [0, L].map((first) => plain(Reader.perplexity(losses, window, first)))));
      status.textContent = reader.told(all);
      Reader.chart(curves, readings, { L, methods, height: 260 });
    }
    return draw;
  });
})();

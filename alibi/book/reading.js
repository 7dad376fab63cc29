"use strict";

// What every page can do for its reader: a citation tells its reference and a word of the glossary its entry, a figure
// opens large, what scrolls sideways is reached by the keyboard, and a table of texts can be read on a phone.

document.addEventListener("DOMContentLoaded", () => {
  const terms = 'a[title][href*="glossary.html#term-"]';
  const told = [...document.querySelectorAll(`article :is(.bibtex-citation a[title], ${terms})`)];
  // The theme loads Bootstrap. Inside the link, so that the pointer may move onto the text.
  for (const link of told) new window.bootstrap.Tooltip(link, { container: link });
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape") for (const link of told) window.bootstrap.Tooltip.getInstance(link)?.hide();
  });

  // Beside two other columns a phone breaks a text after each word: book.css stacks these tables there, a block a row.
  // A moving figure draws its own tables anew.
  for (const table of document.querySelectorAll("article table:not(.widget *)")) {
    const rows = [...table.querySelectorAll("tbody tr")];
    const names = [...(table.querySelector("thead tr")?.cells || [])].map((cell) => cell.textContent.trim());
    const plain = rows.every(({ cells }) => cells.length <= names.length);
    const long = rows.some(({ cells }) => [...cells].some((cell) => cell.textContent.trim().length > 40));
    if (names.length < 3 || !plain || !long) continue;
    table.classList.add("stacked");
    for (const { cells } of rows) {
      // A row that shares its first heads with the one above lacks these cells.
      const missing = names.length - cells.length;
      for (const cell of cells) {
        if (cell.tagName === "TD" && cell.textContent.trim()) cell.dataset.label = names[cell.cellIndex + missing];
      }
    }
  }

  // The edge fades where more follows.
  const fade = (box) => box.classList.toggle("goes-on", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  const reachable = new ResizeObserver((changes) => {
    for (const { target } of changes) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
      fade(target);
    }
  });
  for (const box of document.querySelectorAll("article :is(table, dd, .text_html, .cell_output, .cell_output pre)")) {
    reachable.observe(box);
    box.addEventListener("scroll", () => fade(box), { passive: true });
  }

  for (const image of document.querySelectorAll("article .cell_output img")) {
    // A moving figure has taken its place.
    if (image.closest(".widget-still")) continue;
    // Sphinx has made a link around a picture whose size is told.
    const link = image.closest("a") || document.createElement("a");
    if (!link.contains(image)) {
      image.replaceWith(link);
      link.append(image);
    }
    link.classList.add("enlarge");
    link.href = image.src;
    link.setAttribute("aria-label", `Open large: ${image.alt}`);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const dialog = document.createElement("dialog");
      dialog.className = "enlarged";
      dialog.setAttribute("aria-label", image.alt);
      const close = document.createElement("button");
      close.textContent = "Close";
      const large = image.cloneNode();
      large.removeAttribute("style");
      dialog.append(close, large);
      dialog.addEventListener("click", () => dialog.close());
      dialog.addEventListener("close", () => dialog.remove());
      // Among the cell's outputs, whose colours on a dark page it then has.
      link.closest(".cell_output").append(dialog);
      dialog.showModal();
    });
  }
});

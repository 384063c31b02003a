"use strict";
// Tables can be sorted by a click on a heading, copied, and saved as CSV; figures open in the whole
// window. Without scripts the page is the same, but for that.
(function () {
  function textOf(cell) {
    const small = cell.querySelector("small");
    const all = cell.textContent.trim().replace(/\s+/g, " ");
    if (!small) return [all, ""];
    const detail = small.textContent.trim().replace(/\s+/g, " ");
    return [all.slice(0, all.length - detail.length).trim(), detail];
  }

  // Numbers as the page prints them: a real minus sign, thousands with commas, units behind.
  function numberOf(text) {
    const found = text.replace(/\u2212/g, "-").replace(/,(?=\d{3})/g, "").match(/^[<\u2248]?\s*([+-]?\d+(\.\d+)?)/);
    return found ? Number(found[1]) : null;
  }

  function rowsOf(table) {
    // A name that stands for several rows is repeated in each of them.
    let name = "";
    return [...table.tBodies[0].rows].map((row) => {
      const cells = [...row.cells].map(textOf);
      if (cells[0][0]) name = cells[0][0];
      else cells[0] = [name, ""];
      return cells;
    });
  }

  function asLines(table, separator, quoted) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells].map((c) => c.textContent.trim());
    const rows = rowsOf(table);
    const withDetail = heads.map((_, i) => rows.some((row) => row[i] && row[i][1]));
    const spread = (cells, of) => cells.flatMap((cell, i) => (withDetail[i] ? of(cell) : [of(cell)[0]]));
    const lines = [spread(heads, (head) => [head, head + ", more"])];
    for (const row of rows) lines.push(spread(row, (cell) => cell));
    return lines.map((line) => line.map(quoted).join(separator)).join("\n") + "\n";
  }

  // A cell that begins like a formula would be one in a spreadsheet.
  const plain = (text) => (/^[=@]/.test(text) ? "'" + text : text);
  const csv = (table) =>
    asLines(table, ",", (text) => '"' + plain(text).replace(/"/g, '""') + '"');
  const tsv = (table) => asLines(table, "\t", (text) => plain(text).replace(/\t/g, " "));

  function nameOf(table) {
    let node = table.closest(".scroll");
    let heading = null;
    while (node && !heading) {
      node = node.previousElementSibling || (node.parentElement && node.parentElement.previousElementSibling);
      if (node) heading = /^H[23]$/.test(node.tagName) ? node : null;
    }
    const caption = table.caption ? " " + table.caption.textContent : "";
    const text = ((heading ? heading.textContent : "table") + caption).toLowerCase();
    return text.replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "table";
  }

  function sortBy(table, column, heading) {
    const body = table.tBodies[0];
    const names = rowsOf(table).map((row) => row[0][0]);
    const rows = [...body.rows].map((row, place) => ({ row, place, name: names[place] }));
    const up = heading.getAttribute("aria-sort") !== "ascending";
    const key = ({ row, name }) => (column ? textOf(row.cells[column])[0] : name);
    rows.sort((a, b) => {
      const [x, y] = [numberOf(key(a)), numberOf(key(b))];
      let order;
      if (x !== null && y !== null) order = x - y;
      else if (x !== null || y !== null) return x !== null ? -1 : 1; // what is no number comes last
      else order = key(a).localeCompare(key(b));
      return (up ? order : -order) || a.place - b.place;
    });
    for (const { row, name } of rows) {
      // Rows are no longer beside their neighbours: each bears its name.
      const first = row.cells[0];
      if (!first.textContent.trim()) first.textContent = name;
      first.classList.remove("open");
      body.append(row);
    }
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  }

  function button(label, action) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.addEventListener("click", action);
    return made;
  }

  function save(name, text) {
    const link = document.createElement("a");
    link.href = "data:text/csv;charset=utf-8," + encodeURIComponent("\ufeff" + text);
    link.download = name + ".csv";
    link.click();
  }

  function copy(text, told) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    told.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => (told.textContent = "Copy"), 1500);
  }

  // One dialog for all figures; Escape closes it, and focus returns to the figure.
  function enlargeFigures() {
    const dialog = document.createElement("dialog");
    const bar = document.createElement("div");
    const title = document.createElement("span");
    const shown = document.createElement("img");
    title.id = "enlarged";
    dialog.setAttribute("aria-labelledby", title.id);
    bar.append(title, button("Close", () => dialog.close()));
    dialog.append(bar, shown);
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    document.body.append(dialog);
    for (const image of document.querySelectorAll("figure > img")) {
      const name = image.closest("figure").querySelector("b").textContent;
      const opener = button("", () => {
        [shown.src, shown.alt, title.textContent] = [image.src, image.alt, name];
        dialog.showModal();
      });
      opener.className = "enlarge";
      opener.title = "Enlarge";
      image.before(opener);
      opener.append(image);
    }
  }

  for (const table of document.querySelectorAll(".scroll table")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((heading, column) => {
      if (!heading.textContent.trim()) return;
      const inner = button("", () => sortBy(table, column, heading));
      inner.className = "sort";
      inner.append(...heading.childNodes);
      heading.append(inner);
    });
    const tools = document.createElement("div");
    tools.className = "tools";
    tools.append(button("CSV", () => save(nameOf(table), csv(table))));
    tools.append(button("Copy", (event) => copy(tsv(table), event.currentTarget)));
    table.closest(".scroll").before(tools);
  }
  enlargeFigures();
})();

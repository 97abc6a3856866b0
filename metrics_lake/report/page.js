"use strict";
// Draws the page's charts and makes its tables sortable; without scripts the tables are there all the same.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const looks = read("looks");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const views = {};
  window.metricsLakeCharts = views;

  // Legends do not flow: their columns were reckoned for a place of 480 pixels.
  function fitLegends(spec, width) {
    for (const [name, value] of Object.entries(spec)) {
      if (value === null || typeof value !== "object" || name === "datasets") continue;
      if (name === "legend" && value.columns) value.columns = Math.max(1, Math.floor((value.columns * width) / 480));
      fitLegends(value, width);
    }
  }

  async function draw(element, isDark) {
    const spec = read(element.dataset.spec);
    fitLegends(spec, element.clientWidth);
    const options = {
      config: isDark ? looks.dark : looks.light,
      renderer: "canvas",
      logLevel: 1, // errors: Vega's other notes are for those who write charts
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: element.dataset.spec,
    };
    try {
      if (views[element.id]) views[element.id].finalize();
      views[element.id] = await vegaEmbed(element, spec, options);
    } catch (error) {
      element.innerHTML = "";
      const told = document.createElement("p");
      told.className = "failed";
      told.textContent = `This chart could not be drawn: ${error.message}`;
      element.append(told);
      throw error;
    }
  }

  async function drawAll(isDark) {
    for (const element of document.querySelectorAll(".chart")) {
      if (element.closest("[hidden]") === null) await draw(element, isDark);
    }
    document.documentElement.dataset.drawn = String(Object.keys(views).length);
  }

  // ---- tables ------------------------------------------------------------------------------------------

  const key = (row, at) => {
    const cell = row.cells[at];
    return cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent;
  };

  function compare(isNumber, sign) {
    const words = new Intl.Collator(undefined, { numeric: true });
    return (left, right) => {
      if (left === "" || right === "") return (left === "") - (right === ""); // nothing is always last
      if (!isNumber) return sign * words.compare(left, right);
      const [a, b] = [Number(left), Number(right)];
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a < b ? -1 : a > b ? 1 : 0);
    };
  }

  function sort(table, at) {
    const header = table.tHead.rows[0].cells[at];
    const isDown = header.getAttribute("aria-sort") === "ascending";
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    const by = compare(header.classList.contains("number"), isDown ? -1 : 1);
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row, at), row]);
    rows.sort(([left], [right]) => by(left, right));
    body.append(...rows.map(([, row]) => row));
  }

  function filter(table, text, told) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const content = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => content.includes(word));
      if (!row.hidden) shown += 1;
    }
    const total = table.tBodies[0].rows.length;
    told.textContent = words.length ? `${shown.toLocaleString("en")} of ${total.toLocaleString("en")} rows` : "";
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((header, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, at));
    });
  }
  for (const tools of document.querySelectorAll(".tools")) {
    const table = document.getElementById(tools.dataset.table);
    const [input, told] = [tools.querySelector("input"), tools.querySelector("output")];
    input.addEventListener("input", () => filter(table, input.value, told));
    tools.hidden = false;
  }
  for (const choice of document.querySelectorAll("fieldset.choice")) {
    choice.addEventListener("change", (event) => {
      for (const input of choice.querySelectorAll("input")) {
        document.getElementById(input.value).hidden = input !== event.target;
      }
      drawAll(dark.matches);
    });
    choice.hidden = false;
  }

  dark.addEventListener("change", () => drawAll(dark.matches));
  window.addEventListener("beforeprint", () => drawAll(false));
  window.addEventListener("afterprint", () => drawAll(dark.matches));
  drawAll(dark.matches);
})();

"use strict";
// The table of all clips: sorted, filtered and paged here, drawn fifty rows at a time. Texts are only ever set as text.
(() => {
  const data = document.getElementById("clip-data");
  if (!data) return;
  const { columns, rows } = JSON.parse(data.textContent);
  const at = Object.fromEntries(columns.map((name, index) => [name, index]));
  const PAGE = 50, NOTHING = "–";
  const table = document.getElementById("clip-table"), body = table.tBodies[0];
  const heads = [...table.querySelectorAll("th[data-column]")];
  const shown = heads.map((head) => ({ name: head.dataset.column, isText: head.classList.contains("text") }));
  const form = document.getElementById("clip-filters"), pager = document.getElementById("clip-pager");
  const count = document.getElementById("clip-count"), pageText = document.getElementById("clip-page");
  const dialog = document.getElementById("clip-dialog");
  const haystacks = rows.map((row) => [row[at.name], row[at.token], row[at.reason], row[at.description]].join("\n").toLowerCase());
  const collator = new Intl.Collator("en", { numeric: true });
  let order = rows.map((_, index) => index), found = order, page = 0;

  const element = (tag, text, style) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (style) made.className = style;
    return made;
  };
  const value = (row, name) => row[at[name]] === null || row[at[name]] === "" ? NOTHING : String(row[at[name]]);

  function draw() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    body.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(drawRow));
    count.textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} clips`;
    pageText.textContent = `Page ${page + 1} of ${pages}`;
    for (const button of pager.querySelectorAll("button")) {
      const next = page + Number(button.dataset.step);
      button.disabled = next < 0 || next >= pages;
    }
    pager.hidden = pages === 1;
  }

  function drawRow(index) {
    const row = rows[index], line = document.createElement("tr");
    for (const { name, isText } of shown) {
      if (name === "name") {
        const head = element("th"), button = element("button", value(row, name), "link");
        head.scope = "row";
        button.type = "button";
        button.addEventListener("click", () => open(row));
        head.append(button);
        line.append(head);
      } else {
        line.append(element("td", value(row, name), `${isText ? "text" : ""} ${name}`.trim()));
      }
    }
    return line;
  }

  function sortBy(head) {
    const falls = head.getAttribute("aria-sort") === "ascending";
    const column = at[head.dataset.column];
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const missing = (cell) => cell === null || cell === "";
    order.sort((left, right) => {
      const [a, b] = [rows[left][column], rows[right][column]];
      if (missing(a) || missing(b)) return missing(a) - missing(b) || left - right;  // what is missing comes last
      const by = typeof a === "number" ? a - b : collator.compare(a, b);
      return (falls ? -by : by) || left - right;
    });
    filter();
  }

  function filter() {
    const wanted = new FormData(form), words = wanted.get("text").toLowerCase().split(/\s+/).filter(Boolean);
    const picks = [...wanted].filter(([name, pick]) => name !== "text" && pick);
    found = order.filter((index) =>
      picks.every(([name, pick]) => rows[index][at[name]] === pick) && words.every((word) => haystacks[index].includes(word)));
    page = 0;
    draw();
  }

  function open(row) {
    document.getElementById("clip-title").textContent = row[at.name];
    const facts = element("dl", undefined, "facts");
    const items = [["State", "state"], ["Score", "score"], ["Agents", "agents"], ["Map", "map"], ["Key frames", "key_frames"],
      ["Nearest (m)", "nearest_m"], ["Frames", "frames"], ["Bought frames", "frames_bought"], ["Light", "light"],
      ["Weather", "weather"], ["Behaviour", "behaviour"], ["Stratum", "stratum"], ["Location", "location"]];
    for (const [label, name] of items) {
      const item = element("div");
      item.append(element("dt", label), element("dd", value(row, name)));
      facts.append(item);
    }
    const parts = [element("p", value(row, "description")), element("p", row[at.token], "token soft"), element("p", value(row, "reason"), "why"), facts];
    if (row[at.history].length) parts.push(history(row[at.history]));
    if (row[at.anchor]) parts.push(link("Show its pictures", `#${row[at.anchor]}`));
    if (dialog.dataset.board) parts.push(link("Open the clip", dialog.dataset.board + encodeURIComponent(row[at.token])));
    document.getElementById("clip-detail").replaceChildren(...parts);
    dialog.showModal();
  }

  function history(entries) {
    const made = element("table"), head = made.createTHead().insertRow(), lines = made.createTBody();
    for (const label of ["Round", "Score", "Rank"]) {
      const cell = element("th", label);
      cell.scope = "col";
      head.append(cell);
    }
    for (const [round, score, rank, of] of entries) {
      const line = lines.insertRow();
      line.append(element("td", round), element("td", score ?? NOTHING), element("td", rank ? `${rank} of ${of}` : NOTHING));
    }
    return made;
  }

  function link(label, target) {
    const line = element("p"), made = element("a", label);
    made.href = target;
    made.addEventListener("click", () => dialog.close());
    line.append(made);
    return line;
  }

  function download() {
    const quoted = (cell) => {
      const text = String(cell ?? "");
      return `"${(typeof cell === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
    };
    const names = columns.filter((name) => name !== "history" && name !== "anchor");
    const lines = [names.join(","), ...found.map((index) => names.map((name) => quoted(rows[index][at[name]])).join(","))];
    const made = element("a");
    made.href = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
    made.download = "clips.csv";
    made.click();
    URL.revokeObjectURL(made.href);
  }

  for (const head of heads) {
    const button = element("button", head.textContent, "sort");
    button.type = "button";
    button.addEventListener("click", () => sortBy(head));
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
  }
  for (const button of pager.querySelectorAll("button")) {
    button.addEventListener("click", () => { page += Number(button.dataset.step); draw(); });
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  document.getElementById("clip-csv").addEventListener("click", download);
  form.hidden = false;
  draw();
})();

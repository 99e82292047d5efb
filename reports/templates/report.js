(() => {
  "use strict";
  const number = (text) => {
    const plain = text.replace(/,/g, "").replace(/\u2212/g, "-").trim();
    if (plain === "\u221e") return Infinity;
    if (plain === "-\u221e") return -Infinity;
    const gap = /^1-(.+)$/.exec(plain);
    const value = gap ? 1 - parseFloat(gap[1]) : parseFloat(plain);
    return Number.isNaN(value) ? null : value;
  };
  for (const box of document.querySelectorAll("[data-taps]")) {
    const table = box.querySelector("table");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({
      row,
      branch: row.classList.contains("b"),
      failed: row.classList.contains("x"),
      depth: Number((/\bd(\d+)/.exec(row.className) || [0, 0])[1]),
      folded: false,
    }));
    const taps = rows.filter((one) => !one.branch);
    const tools = box.querySelector(".tools");
    const search = tools.querySelector("[type=search]");
    const only = tools.querySelector("[type=checkbox]");
    const count = tools.querySelector("[data-count]");
    const noun = box.dataset.taps || "taps";
    let sorted = null;

    const holds = (one, words) => {
      if (words.length === 0) return true;
      one.text ??= [...one.row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      return words.every((word) => one.text.includes(word));
    };
    const show = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const flat = sorted !== null || words.length > 0 || Boolean(only?.checked);
      let under = Infinity;
      let shown = 0;
      for (const one of rows) {
        if (one.depth <= under) under = Infinity;
        let hide = one.branch ? flat : !flat && under < Infinity;
        if (one.branch && !flat && under < Infinity) hide = true;
        if (!one.branch && flat) {
          hide = (only?.checked && !one.failed) || !holds(one, words);
        }
        if (one.branch && one.folded && under === Infinity) under = one.depth;
        if (one.row.hidden !== hide) one.row.hidden = hide;
        if (!hide && !one.branch) shown += 1;
      }
      box.classList.toggle("flat", flat);
      const all = `${taps.length.toLocaleString("en")} ${noun}`;
      count.textContent = flat ? `${shown.toLocaleString("en")} of ${all} shown` : all;
    };

    const fold = (one, folded) => {
      one.folded = folded;
      one.row.querySelector("button").setAttribute("aria-expanded", String(!folded));
    };
    for (const one of rows.filter((row) => row.branch)) {
      const cell = one.row.cells[0];
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      button.addEventListener("click", () => {
        fold(one, !one.folded);
        show();
      });
      cell.append(button);
      const size = Number(one.row.dataset.size);
      fold(one, !one.failed && taps.length > 40 && size <= Math.max(40, taps.length / 4));
    }

    const order = (column, falling) => {
      const keys = new Map(
        taps.map((one) => {
          const text = one.row.cells[column].textContent;
          return [one, number(text) ?? text];
        }),
      );
      const numeric = taps.some((one) => typeof keys.get(one) === "number");
      const sign = falling ? -1 : 1;
      const compare = (a, b) => {
        if (a.failed !== b.failed) return a.failed ? -1 : 1;
        const [x, y] = [keys.get(a), keys.get(b)];
        if (numeric && typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        if (x === y) return 0;
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
      };
      return [...taps].sort(compare);
    };
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const first = head.dataset.first || "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const next = now === first ? second : now === second ? null : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        sorted = next === null ? null : column;
        if (next !== null) head.setAttribute("aria-sort", next);
        const chosen =
          next === null
            ? rows
            : [...rows.filter((one) => one.branch), ...order(column, next === "descending")];
        body.append(...chosen.map((one) => one.row));
        show();
      });
    });

    search.addEventListener("input", show);
    only?.addEventListener("change", show);
    for (const button of tools.querySelectorAll("[data-fold]")) {
      button.addEventListener("click", () => {
        for (const one of rows) if (one.branch) fold(one, button.dataset.fold === "yes");
        show();
      });
    }
    tools.hidden = false;
    show();
  }
})();

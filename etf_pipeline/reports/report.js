"use strict";
(() => {
  const root = document.documentElement;
  const report = JSON.parse(document.getElementById("data").textContent);
  const { charts, series, words } = report;
  const font = getComputedStyle(document.body).fontFamily;
  const print = { on: false };
  const chosen = {};
  const decoded = new Map();

  document.querySelectorAll("input[data-choice]:checked").forEach((input) => { chosen[input.dataset.choice] = input.value; });

  const language = () => root.dataset.lang;
  const text = (key) => words[key][language() === "zh" ? 0 : 1];

  function numbers(packed) {
    if (!decoded.has(packed)) {
      const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
      decoded.set(packed, Array.from(new Float32Array(bytes.buffer), (v) => (Number.isNaN(v) ? null : v)));
    }
    return decoded.get(packed);
  }

  // dates as a first one and the days from each to the next
  function dates(packed) {
    if (!decoded.has(packed.gaps + packed.from)) {
      let moment = Date.parse(`${packed.from}T00:00:00Z`);
      const written = () => new Date(moment).toISOString().slice(0, 10);
      const all = [written()];
      for (const gap of atob(packed.gaps)) { moment += gap.charCodeAt(0) * 86400000; all.push(written()); }
      decoded.set(packed.gaps + packed.from, all);
    }
    return decoded.get(packed.gaps + packed.from);
  }

  function drawdown(values) {
    let peak = -Infinity;
    return values.map((v) => { if (v === null) return null; peak = Math.max(peak, v); return v / peak - 1; });
  }

  // a value of a chart with its references, choices and words filled in; a series that does not exist is empty
  function resolve(value) {
    if (typeof value === "string") return value.replace(/⟦(.+?)⟧/g, (_, key) => text(key));
    if (Array.isArray(value)) return value.map(resolve);
    if (value === null || typeof value !== "object") return value;
    if ("$" in value) {
      const name = value.$.replace(/\{(\w+)\}/g, (_, choice) => chosen[choice]);
      return name in series ? resolve(series[name]) : [];
    }
    if ("f4" in value) return numbers(value.f4);
    if ("gaps" in value) return dates(value);
    if ("$ratio" in value) {
      const [above, below] = value.$ratio.map(resolve);
      return above.map((v, i) => (v === null || below[i] === null || below[i] === undefined ? null : v / below[i]));
    }
    if ("$drawdown" in value) return drawdown(resolve(value.$drawdown));
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolve(inner)]));
  }

  // in figures, which both languages read; Plotly has names of months in English alone
  const DATES = {
    hoverformat: "%Y-%m-%d",
    tickformatstops: [
      { dtickrange: [null, "M1"], value: "%Y-%m-%d" },
      { dtickrange: ["M1", "M12"], value: "%Y-%m" },
      { dtickrange: ["M12", null], value: "%Y" },
    ],
  };

  function axis(own, narrow) {
    const size = print.on ? 9 : narrow ? 10 : 12;
    return {
      automargin: true, gridcolor: "#e3e7ec", linecolor: "#9aa5b1", tickfont: { size }, zeroline: false, zerolinecolor: "#5c6875",
      fixedrange: window.matchMedia("(pointer: coarse)").matches, ...(own.type === "date" ? DATES : {}), ...own,
      title: own.title ? { font: { size, color: "#5c6875" }, standoff: 6, ...own.title } : undefined,
    };
  }

  function draw(element) {
    const { traces, layout, height: onScreen } = charts[element.dataset.chart];
    const height = print.on ? Math.round(onScreen * 0.75) : onScreen;
    element.style.height = `${height}px`;
    const width = element.clientWidth;
    const narrow = width < 520;
    const filled = resolve(layout);
    const size = print.on ? 9 : narrow ? 11 : 12;
    const complete = {
      // dates and numbers of hover boxes as everywhere else in the report
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height, width, separators: ".,",
      font: { family: font, size, color: "#1c2733" },
      margin: { l: 8, r: narrow ? 8 : 14, t: 10, b: 8, pad: 2 },
      hoverlabel: { font: { family: font, size: 12 }, bgcolor: "#fff", bordercolor: "#9aa5b1" },
      ...filled,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.01, yanchor: "bottom", font: { size }, traceorder: "normal", ...filled.legend },
    };
    for (const key of Object.keys(filled)) if (/^[xy]axis\d*$/.test(key)) complete[key] = axis(filled[key], narrow);
    for (const key of ["xaxis", "yaxis"]) if (!(key in filled)) complete[key] = axis({}, narrow);
    const small = (trace) => {
      if (trace.textfont) trace.textfont.size = print.on ? 8 : width < 360 ? 9 : 11;
      return trace;
    };
    return Plotly.react(element, resolve(traces).map(small), complete, { displayModeBar: false, displaylogo: false, responsive: false, doubleClick: "reset" });
  }

  const elements = [...document.querySelectorAll("[data-chart]")];
  const visible = (element) => element.clientWidth > 0;
  const drawAll = () => Promise.all(elements.filter(visible).map(draw));

  function show() {
    document.querySelectorAll("[data-show]").forEach((element) => {
      const wanted = (print.on ? element.dataset.print : element.dataset.show).split(" ").map((part) => part.split("="));
      element.hidden = !wanted.every(([name, value]) => chosen[name] === undefined || chosen[name] === value);
    });
  }

  function setLanguage(code) {
    root.dataset.lang = code;
    root.lang = code === "zh" ? "zh-CN" : "en";
    const title = document.querySelector("title");
    title.textContent = title.dataset[code];
    document.querySelectorAll("[data-set-lang]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.setLang === code)));
    return drawAll();
  }

  document.querySelectorAll("[data-set-lang]").forEach((button) => button.addEventListener("click", () => setLanguage(button.dataset.setLang)));

  document.querySelectorAll("input[data-choice]").forEach((input) => input.addEventListener("change", () => {
    const name = input.dataset.choice;
    chosen[name] = input.value;
    // the same choice stands in several places
    document.querySelectorAll(`input[data-choice="${name}"]`).forEach((other) => { other.checked = other.value === input.value; });
    show();
    const depends = (element) => JSON.stringify(charts[element.dataset.chart]).includes(`{${name}}`);
    elements.filter((element) => visible(element) && depends(element)).forEach(draw);
  }));

  function sort(head) {
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const numeric = !head.classList.contains("txt");
    // numbers start with the largest, names with the first
    const first = numeric ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort");
    const order = now === null ? first : now === "ascending" ? "descending" : "ascending";
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.children[column].dataset.v;
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      if (left === undefined || right === undefined) return (left === undefined) - (right === undefined);
      return sign * (numeric ? Number(left) - Number(right) : left.localeCompare(right, "zh"));
    });
    body.append(...rows);
  }

  document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"))));
  document.querySelectorAll("details").forEach((element) => element.addEventListener("toggle", () => element.querySelectorAll("[data-chart]").forEach(draw)));

  let timer = 0;
  let drawnAt = window.innerWidth;
  window.addEventListener("resize", () => {
    if (print.on || window.innerWidth === drawnAt) return;
    drawnAt = window.innerWidth;
    clearTimeout(timer);
    timer = setTimeout(drawAll, 150);
  });

  // paper is narrower than the screen: charts are drawn anew for it, and everything folded is opened
  const PAPER = 700;
  let folded = [];
  window.addEventListener("beforeprint", () => {
    print.on = true;
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((element) => { element.open = true; });
    show();
    document.body.classList.add("paper");
    document.body.style.width = `${PAPER}px`;
    drawAll();
    document.body.style.width = "";
  });
  window.addEventListener("afterprint", () => {
    print.on = false;
    folded.forEach((element) => { element.open = false; });
    document.body.classList.remove("paper");
    show();
    drawAll();
  });

  show();
  setLanguage(language()).then(() => { document.body.dataset.drawn = "true"; });
})();

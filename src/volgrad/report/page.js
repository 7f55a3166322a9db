"use strict";
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const read = (plot) => JSON.parse(plot.querySelector("script").textContent);
  const figures = new Map();

  // Text that begins with "--" is a colour of the style sheet.
  const themed = (value, style) => {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) {
      return value.length > 12 && typeof value[0] !== "object" && !String(value[0]).startsWith("--")
        ? value : value.map((item) => themed(item, style));
    }
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
    }
    return value;
  };

  const axis = (given) => ({
    gridcolor: "--grid", linecolor: "--line", zeroline: false, automargin: true, ticks: "", fixedrange: false,
    tickfont: { color: "--muted", size: 11 }, ...given,
    title: { standoff: 8, ...given.title, font: { color: "--muted", size: 12 } },
  });

  const layoutOf = (given, small) => {
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      margin: { l: 58, r: 14, t: 12, b: 46 }, dragmode: "zoom", modebar: { bgcolor: "rgba(0,0,0,0)", color: "--muted",
      activecolor: "--accent" }, hoverlabel: { bgcolor: "--card", bordercolor: "--line", font: { color: "--ink", size: 12 } },
      legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
      font: { color: "--ink", size: 12, family: getComputedStyle(document.body).fontFamily }, ...given,
    };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) layout[key] = axis(layout[key]);
      if (key === "scene") {
        layout.scene = { ...layout.scene, dragmode: "turntable" };
        for (const name of ["xaxis", "yaxis", "zaxis"]) {
          const { automargin, fixedrange, ...rest } = axis(layout.scene[name]);
          delete rest.title.standoff;
          layout.scene[name] = { ...rest, backgroundcolor: "rgba(0,0,0,0)", tickfont: { color: "--muted", size: 10 } };
        }
      }
    }
    return layout;
  };

  const draw = (plot) => {
    const figure = figures.get(plot) ?? read(plot);
    figures.set(plot, figure);
    const style = getComputedStyle(document.documentElement);
    const config = {
      displaylogo: false, responsive: true, displayModeBar: figure.bar ? "hover" : false,
      plotlyServerURL: "", modeBarButtons: [["toImage", figure.layout.scene ? "resetCameraDefault3d" : "resetScale2d"]],
    };
    Plotly.react(plot, themed(figure.data, style), themed(layoutOf(figure.layout), style), config);
    plot.dataset.drawn = "1";
  };

  // Figures are drawn when they come near; three-dimensional ones give their WebGL context back when they have gone.
  const solid = (plot) => "scene" in (figures.get(plot)?.layout ?? {});
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !target.dataset.drawn) draw(target);
      else if (!isIntersecting && target.dataset.drawn && solid(target)) {
        Plotly.purge(target);
        delete target.dataset.drawn;
      }
    }
  }, { rootMargin: "600px 0px" });
  for (const plot of plots) {
    figures.set(plot, null);
    watch.observe(plot);
  }
  const redraw = () => plots.filter((plot) => plot.dataset.drawn).forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => plots.forEach((plot) => plot.dataset.drawn || draw(plot)));

  // The index: sort by a heading, filter by words.
  const table = document.getElementById("index");
  if (!table) return;  // a page without one
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent.toLowerCase();
  };
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((one, other) => {
      const [a, b] = [value(one, column), value(other, column)];
      return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
    });
    body.append(...rows);
  }));
  const box = document.getElementById("filter");
  const count = document.getElementById("count");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => texts.get(row).includes(word));
      left += !row.hidden;
    }
    const all = rows.length.toLocaleString("en");
    count.textContent = words.length ? `${left.toLocaleString("en")} of ${all} chains` : `${all} chains`;
  });
})();

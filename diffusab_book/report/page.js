// Draws the charts. Text and grid take the page's colours, which follow the reader's light or dark setting.
(() => {
  const { charts, views } = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 36rem)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const menu = document.getElementById("statistic");
  const draw = (place) => {
    let { data, layout } = charts[place.dataset.key];
    if (place.dataset.key === "profile") {
      const view = views[menu.value];
      data = data.map((trace, i) => ({ ...trace, y: view.y[i] }));
      layout = { ...layout, yaxis: { ...layout.yaxis, title: { ...layout.yaxis.title, text: view.label } } };
      place.setAttribute("aria-label", view.alt);
      document.getElementById("definition").textContent = view.definition;
    }
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line"),
      zeroline: false, automargin: true };
    const named = data.filter((trace) => trace.showlegend !== false).length;
    Plotly.react(place, data, { ...layout, font: { ...layout.font, color: colour("--soft") },
      xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--text") },
        namelength: -1 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: narrow.matches ? -0.34 : -0.24, yanchor: "top",
        font: { color: colour("--text") } },
      height: narrow.matches ? 350 + 22 * named : 400, margin: { l: 8, r: 8, t: 24, b: 8 },
    }, { responsive: true, displaylogo: false, displayModeBar: false });
  };
  const drawAll = () => document.querySelectorAll(".chart").forEach(draw);
  menu.addEventListener("change", () => draw(document.getElementById("chart-profile")));
  for (const query of [dark, narrow]) query.addEventListener("change", drawAll);
  drawAll();
})();

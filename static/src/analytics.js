// Analytics: four charts of the window's figures. The same figures stand in the table below them.
(function () {
  "use strict";
  var roastops = window.roastops, section = document.getElementById("charts"), line = document.getElementById("chart-line");
  if (!roastops || !roastops.Chart || !section) return;
  var series = JSON.parse(section.dataset.series), x = series.at_s, t = roastops.t;
  if (!x.length || !section.querySelector("[data-chart]")) return;
  var zone = document.body.dataset.timeZone || undefined;
  var isShort = x[x.length - 1] - x[0] <= 36 * 3600;
  var language = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;
  var day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", timeZone: zone });
  var clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", timeZone: zone });
  function words(s) { return (isShort ? clock : day).format(new Date(s * 1000)); }
  function whole(s) { var at = new Date(s * 1000); return day.format(at) + " " + clock.format(at); }
  var CHARTS = {
    orders: { unit: "", digits: 0, lines: [["orders", t("all")], ["completed", t("completed")], ["failed", t("failed")], ["refused", t("refused")]] },
    rates: { unit: " %", digits: 1, most: 100, lines: [["success_rate", t("success")], ["refusal_rate", t("refused")], ["rejection_rate", t("rejected")], ["human_intervention_rate", t("stepped in")]] },
    approval: { unit: " s", digits: 1, lines: [["approval_latency_mean_ms", t("mean")], ["approval_latency_p95_ms", "p95"]] },
    execution: { unit: " s", digits: 2, lines: [["execution_duration_mean_ms", t("mean")], ["execution_duration_p95_ms", "p95"]] }
  };
  Object.keys(CHARTS).forEach(function (name) {
    var holder = section.querySelector('[data-chart="' + name + '"]'), legend = section.querySelector('[data-legend="' + name + '"]'), chart = CHARTS[name];
    var lines = chart.lines.filter(function (one) { return series.has_percentiles || one[0].indexOf("p95") < 0; });
    lines.forEach(function (one, i) {
      var item = document.createElement("li");
      item.append(roastops.Chart.sample(i), " " + one[1]);
      legend.appendChild(item);
    });
    new roastops.Chart(holder, {
      height: function () { return 210; }, x: x, sync: "analytics",
      lines: lines.map(function (one, i) { return { name: one[1], scale: "c", values: series[one[0]], style: i, dots: x.length < 100 || series[one[0]].indexOf(null) >= 0 }; }),
      xWords: function (u, splits) { return splits.map(words); },
      range: {
        x: function () { return x.length > 1 ? [x[0], x[x.length - 1]] : [x[0] - 1800, x[0] + 1800]; },
        c: function (u, low, high) { return [0, chart.most || Math.max(1, (high || 1) * 1.08)]; }
      },
      onCursor: function (i) {
        if (!line || i === null || i === undefined) return;
        line.textContent = whole(x[i]) + "  " + lines.map(function (one) {
          var value = series[one[0]][i];
          return one[1] + " " + (value === null ? "–" : value.toFixed(chart.digits) + chart.unit);
        }).join("  ");
      }
    });
  });
})();

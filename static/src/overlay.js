// Charts of the library, drawn by uPlot: lines over one axis of time (or temperature), bands behind, marks above,
// names at the ends of the lines. Lines differ by dash and weight first, by colour second.
(function () {
  "use strict";
  var roastops = window.roastops;
  if (!roastops || !window.uPlot) return;
  var colour = roastops.colour, figures = roastops.axisFigures;
  var STYLES = [["bt", 2.6, []], ["ror", 2, []], ["et", 2, [9, 4]], ["ror", 2, [2, 4]], ["bt", 1.6, [10, 4, 2, 4]], ["et", 2, [3, 3]]];

  function ticks(u, splits) { return splits.map(function (s) { return (s < 0 ? "−" : "") + roastops.mmss(Math.abs(s) * 1000); }); }
  function blank(u, splits) { return splits.map(function () { return ""; }); }

  /** options: {height, x: [values], lines: [{name, short, scale: "c"|"r", values, style, stepped}], bands: [{low, high, scale, tone}],
      marks: [{at, word, isFirm}], xWords, yLabel, rLabel, range: {c, r, x}, onCursor} */
  function Chart(holder, options) {
    this.holder = holder;
    this.options = options;
    var self = this;
    new ResizeObserver(function () {
      if (self.plot && Math.abs(self.plot.width - self.width()) > 2) self.build();
    }).observe(holder);
    document.addEventListener("roastops:theme", function () { self.build(); });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { self.build(); });
    this.build();
  }
  Chart.prototype.width = function () { return Math.max(260, this.holder.clientWidth); };
  Chart.prototype.build = function () {
    if (this.plot) this.plot.destroy();
    var self = this, o = this.options, width = this.width(), isNarrow = width < 560, ink = colour("quiet"), grid = colour("grid");
    var font = "12px " + getComputedStyle(document.body).fontFamily;
    var hasRates = o.lines.some(function (line) { return line.scale === "r"; });
    var axis = { stroke: ink, font: font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    var named = function (label) { return isNarrow ? null : label; };
    var series = [{}].concat(o.lines.map(function (line) {
      var style = STYLES[line.style % STYLES.length];
      return {
        label: line.name, scale: line.scale, stroke: colour(style[0]), width: style[1], dash: style[2], spanGaps: false, points: { show: !!line.dots, size: 5, fill: colour(style[0]) },
        paths: line.stepped ? window.uPlot.paths.stepped({ align: 1 }) : undefined
      };
    }));
    var scales = { x: { time: false, range: o.range.x }, c: { range: o.range.c } };
    if (hasRates) scales.r = { range: o.range.r };
    var axes = [
      Object.assign({}, axis, o.noTimes ? { values: blank, size: 6 } : { values: o.xWords || ticks, size: 30, space: 56 }, o.xWords ? {} : { incrs: [30, 60, 120, 180, 300, 600] }),
      Object.assign({ scale: "c", values: figures, size: isNarrow ? 44 : 54, space: 40, label: named(o.yLabel), labelFont: font, labelSize: 18 }, axis, o.lanes ? { values: blank, splits: function () { return o.lanes.map(function (l, i) { return i; }).concat([o.lanes.length]); } } : {})
    ];
    axes.push(hasRates ? Object.assign({}, axis, { scale: "r", values: figures, side: 1, size: isNarrow ? 32 : 46, stroke: colour("ror"), grid: { show: false }, label: named(o.rLabel), labelFont: font, labelSize: 18 })
      : Object.assign({}, axis, { scale: "c", side: 1, size: isNarrow ? 32 : 46, values: blank, grid: { show: false }, label: named(" "), labelFont: font, labelSize: 18 }));
    this.plot = new window.uPlot({
      width: width, height: o.height(width), padding: [o.marks && o.marks.length ? 38 : 12, 4, 0, 0], legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 7 }, sync: o.sync ? { key: o.sync } : undefined },
      scales: scales, axes: axes, series: series,
      hooks: {
        drawAxes: [function (u) { self.drawBands(u); }],
        draw: [function (u) { self.drawMarks(u); self.drawNames(u); }],
        setCursor: [function (u) { if (o.onCursor) o.onCursor(u.cursor.idx); }]
      }
    }, [o.x].concat(o.lines.map(function (line) { return line.values; })), this.holder);
    this.holder.dataset.points = o.x.length;
  };
  function drawing(u, draw) {
    var ctx = u.ctx;
    ctx.save();
    ctx.font = 12 * devicePixelRatio + "px " + getComputedStyle(document.body).fontFamily;
    draw(ctx, devicePixelRatio);
    ctx.restore();
  }
  Chart.prototype.drawBands = function (u) {
    var o = this.options;
    (o.bands || []).forEach(function (band) {
      drawing(u, function (ctx) {
        ctx.beginPath();
        ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
        ctx.clip();
        ctx.beginPath();
        band.x.forEach(function (x, i) { ctx.lineTo(u.valToPos(x, "x", true), u.valToPos(band.low[i], band.scale, true)); });
        for (var i = band.x.length - 1; i >= 0; i -= 1) ctx.lineTo(u.valToPos(band.x[i], "x", true), u.valToPos(band.high[i], band.scale, true));
        ctx.closePath();
        ctx.globalAlpha = 0.2;
        ctx.fillStyle = colour(band.tone);
        ctx.fill();
      });
    });
  };
  Chart.prototype.drawMarks = function (u) {
    var o = this.options;
    drawing(u, function (ctx, ratio) {
      var lastRights = [-1e9, -1e9];
      (o.marks || []).forEach(function (mark) {
        var x = Math.round(u.valToPos(mark.at, "x", true));
        if (x < u.bbox.left - 1 || x > u.bbox.left + u.bbox.width + 1) return;
        ctx.strokeStyle = colour("edge");
        ctx.lineWidth = ratio;
        ctx.setLineDash(mark.isFirm ? [] : [3 * ratio, 3 * ratio]);
        ctx.beginPath();
        ctx.moveTo(x, u.bbox.top);
        ctx.lineTo(x, u.bbox.top + u.bbox.height);
        ctx.stroke();
        ctx.setLineDash([]);
        ctx.fillStyle = colour("ink-2");
        var wide = ctx.measureText(mark.word).width, left = Math.min(x + 3 * ratio, u.bbox.left + u.bbox.width - wide);
        var row = left < lastRights[0] + 6 * ratio ? 1 : 0;
        if (row && left < lastRights[1] + 6 * ratio) return;
        lastRights[row] = left + wide;
        ctx.fillText(mark.word, left, u.bbox.top - (6 + row * 15) * ratio);
      });
    });
  };
  Chart.prototype.drawNames = function (u) {
    var o = this.options;
    drawing(u, function (ctx, ratio) {
      var used = [];
      ctx.font = "600 " + ctx.font;
      o.lines.forEach(function (line) {
        if (!line.short) return;
        var i = line.values.length - 1;
        while (i > 0 && (line.values[i] === null || line.values[i] === undefined)) i -= 1;
        if (i < 0 || line.values[i] === null) return;
        var wide = ctx.measureText(line.short).width;
        var x = Math.min(u.valToPos(o.x[i], "x", true) + 4 * ratio, u.bbox.left + u.bbox.width - wide), y = u.valToPos(line.values[i], line.scale, true);
        if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) return;
        y -= 5 * ratio;
        used.forEach(function (other) { if (Math.abs(other - y) < 14 * ratio) y = other + (line.scale === "c" ? -14 : 14) * ratio; });
        used.push(y);
        ctx.fillStyle = colour(STYLES[line.style % STYLES.length][0]);
        ctx.fillText(line.short, x, Math.max(y, u.bbox.top + 11 * ratio));
      });
      (o.lanes || []).forEach(function (name, i) {
        ctx.font = 12 * ratio + "px " + getComputedStyle(document.body).fontFamily;
        ctx.fillStyle = colour("quiet");
        ctx.textAlign = "right";
        ctx.fillText(name, u.bbox.left - 6 * ratio, u.valToPos(i + 0.35, "c", true), u.bbox.left - 8 * ratio);  // a long word is drawn narrower, not cut
        ctx.textAlign = "left";
      });
      (o.labels || []).forEach(function (label) {
        ctx.fillStyle = colour("ink-2");
        ctx.font = 12 * ratio + "px " + getComputedStyle(document.body).fontFamily;
        ctx.fillText(label.word, u.valToPos(label.x, "x", true) + 3 * ratio, u.valToPos(label.y, "c", true) - 3 * ratio);
      });
    });
  };
  /** A small picture of a line's style, for a legend. */
  Chart.sample = function (style) {
    var one = STYLES[style % STYLES.length], ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), line = document.createElementNS(ns, "line");
    svg.setAttribute("width", "34");
    svg.setAttribute("height", "10");
    svg.setAttribute("aria-hidden", "true");
    Object.entries({ x1: 0, x2: 34, y1: 5, y2: 5, "stroke-width": one[1], "stroke-dasharray": one[2].join(" ") || "none" }).forEach(function (pair) { line.setAttribute(pair[0], pair[1]); });
    line.setAttribute("class", "stroke-" + one[0]);
    svg.appendChild(line);
    return svg;
  };
  roastops.Chart = Chart;
})();

// The live curve: BT, ET and RoR above, heater, fan and drum as steps below, event marks between.
// Drawn by uPlot on canvas; the words and the table for those who cannot see a canvas are here too.
(function () {
  "use strict";
  var GAP_S = 3;               // a longer silence is drawn as a gap, not bridged
  var FIELDS = ["bean_temp_c", "et_temp_c", "rate_of_rise_c_per_min", "heater_step", "fan_step", "drum_step"];
  var roastops = window.roastops, t = roastops.t, colour = roastops.colour, figures = roastops.axisFigures;
  var LANES = [["drum", t("Drum")], ["fan", t("Fan")], ["heater", t("Heater")]];  // from the bottom up

  // Bounds of the axes in the person's units: where they lie at least, and the steps they grow by.
  var AXES = roastops.isFahrenheit ? { low: 120, high: 460, step: 20, rates: [-20, 80], rateSteps: [10, 20] }
    : { low: 50, high: 240, step: 10, rates: [-10, 45], rateSteps: [5, 10] };
  function clockTicks(u, splits) { return splits.map(function (s) { return roastops.mmss(s * 1000); }); }

  /** ET is the infrared sensor's where there is one, else the probe's in the drum's air. */
  function et(infrared, environment) {
    if (infrared !== null && infrared !== undefined) return infrared;
    return environment === undefined ? null : environment;
  }
  function etColumn(columns) {
    var environment = columns.environment_temp_c;
    return environment ? columns.infrared_temp_c.map(function (value, i) { return et(value, environment[i]); }) : columns.infrared_temp_c;
  }

  function Curve(holders, limits) {
    this.holders = holders;
    this.full = limits;              // control → full scale step
    this.marks = [];
    this.clear();
    var self = this;
    new ResizeObserver(function () { self.resize(); }).observe(holders.curve);
    document.addEventListener("roastops:theme", function () { self.rebuild(); });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { self.rebuild(); });
    this.rebuild();
  }

  Curve.prototype.clear = function () {
    this.columns = { x: [] };
    var columns = this.columns;
    FIELDS.forEach(function (field) { columns[field] = []; });
    this.isDirty = true;
  };

  /** Replace everything by the answer of GET /v1/roasts/{id}/samples: column by column, for a long roast has 10,000 rows. */
  Curve.prototype.load = function (answer) {
    this.clear();
    var columns = this.columns, times = answer.elapsed_ms, count = times.length, breaks = [];
    // Samples of a machine whose clock runs fast lie further apart: a gap is what is long beside the usual step.
    var gapMs = Math.max(GAP_S * 1000, count > 1 ? 4 * (times[count - 1] - times[0]) / (count - 1) : 0);
    for (var i = 1; i < count; i += 1) if (times[i] - times[i - 1] > gapMs) breaks.push(i);
    function broken(values, atBreak) {  // an empty row in each silence
      if (!breaks.length) return values;
      var out = [], from = 0;
      breaks.forEach(function (row) { out = out.concat(values.slice(from, row), [atBreak(row)]); from = row; });
      return out.concat(values.slice(from));
    }
    columns.x = broken(times.map(function (ms) { return ms / 1000; }), function (row) { return times[row - 1] / 1000 + 0.05; });
    FIELDS.forEach(function (field) {
      var given = field === "et_temp_c" ? etColumn(answer.columns) : answer.columns[field];
      var shown = roastops.isFahrenheit ? given.map(function (value) { return roastops.shown(field, value); }) : given.slice();
      columns[field] = broken(shown, function () { return null; });
    });
  };

  /** Add one reading (elapsed in device milliseconds since charge); an older one is ignored. */
  Curve.prototype.add = function (elapsedMs, reading) {
    var x = elapsedMs / 1000, columns = this.columns, last = columns.x.length ? columns.x[columns.x.length - 1] : null;
    if (last !== null && x <= last) return;
    // A machine whose clock runs fast (a virtual one) leaves seconds between two readings without any silence.
    var now = performance.now(), isSilent = this.addedAt === undefined || now - this.addedAt > 1000 * GAP_S / 2;
    this.addedAt = now;
    if (last !== null && x - last > GAP_S && isSilent) this.push(last + 0.05, {});
    this.push(x, reading);
    this.isDirty = true;
  };
  Curve.prototype.push = function (x, reading) {
    var columns = this.columns;
    columns.x.push(x);
    FIELDS.forEach(function (field) {
      var value = roastops.shown(field, field === "et_temp_c" ? et(reading.infrared_temp_c, reading.environment_temp_c) : reading[field]);  // from here on in the person's units
      columns[field].push(value === undefined ? null : value);
    });
  };
  Curve.prototype.lastX = function () { return this.columns.x.length ? this.columns.x[this.columns.x.length - 1] : 0; };
  /** What lies behind (a golden curve, as GET …/golden answers) and ahead (what the twin expects); null for none. */
  Curve.prototype.setGolden = function (golden) { this.golden = golden; this.isDirty = true; };
  Curve.prototype.setPredicted = function (predicted) { this.predicted = predicted; this.isDirty = true; };
  Curve.prototype.setWhatIf = function (whatIf) { this.whatIf = whatIf; this.isDirty = true; };
  Curve.prototype.setMarks = function (marks) { this.marks = marks; this.isDirty = true; };

  Curve.prototype.lane = function (name, index) {
    var full = this.full[name] || 10;
    return this.columns[name + "_step"].map(function (step) { return step === null ? null : index + 0.08 + 0.74 * Math.min(1, step / full); });
  };

  Curve.prototype.rebuild = function () {
    if (this.main) this.main.destroy();
    if (this.strip) this.strip.destroy();
    var self = this, ink = colour("quiet"), grid = colour("grid"), sync = window.uPlot.sync("roast");
    this.colours = { bt: colour("bt"), et: colour("et"), ror: colour("ror"), ink: colour("ink-2"), edge: colour("edge"), heater: colour("heater"), fan: colour("fan"), drum: colour("drum") };
    var font = "12px " + getComputedStyle(document.body).fontFamily;
    var width = Math.max(280, this.holders.curve.clientWidth);
    var isNarrow = width < 560, sideLeft = 56, sideRight = isNarrow ? 32 : 50, label = isNarrow ? 0 : 18;
    var top = this.holders.curve.getBoundingClientRect().top + window.scrollY;
    // On a desk the whole curve with its strip and mark buttons fits above the STOP bar.
    var height = isNarrow ? 270 : Math.max(250, Math.min(430, window.innerHeight - top - 124 - 150));
    var xScale = { time: false, range: function () { return [0, Math.max(480, Math.ceil((self.lastX() + 30) / 60) * 60)]; } };
    var xAxis = { stroke: ink, font: font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, values: clockTicks, incrs: [30, 60, 120, 180, 300, 600], space: 54, size: 30 };
    var cursor = { sync: { key: sync.key }, drag: { x: false, y: false }, points: { size: 7 } };
    this.main = new window.uPlot({
      width: width, height: height, padding: [22, isNarrow ? 2 : 8, 0, 0], legend: { show: false }, cursor: cursor,
      scales: {
        x: xScale,
        c: { range: function (u, low, high) { return [Math.min(AXES.low, Math.floor((low === null ? AXES.low : low) / AXES.step) * AXES.step), Math.max(AXES.high, Math.ceil((high === null ? AXES.high : high) / AXES.step) * AXES.step + AXES.step)]; } },
        r: { range: AXES.rates }
      },
      axes: [
        Object.assign({}, xAxis, { show: true, values: function (u, splits) { return splits.map(function () { return ""; }); }, size: 6 }),
        { scale: "c", values: figures, stroke: ink, font: font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: sideLeft, space: 44, label: isNarrow ? null : roastops.degree, labelFont: font, labelSize: label },
        { scale: "r", values: figures, side: 1, stroke: this.colours.ror, font: font, grid: { show: false }, ticks: { show: false }, size: sideRight, incrs: AXES.rateSteps, space: 34, label: isNarrow ? null : "RoR " + roastops.degree + "/min", labelFont: font, labelSize: label }
      ],
      series: [
        {},
        { label: "RoR", scale: "r", stroke: this.colours.ror, width: 1.5, spanGaps: false, points: { show: false } },
        { label: "ET", scale: "c", stroke: this.colours.et, width: 1.5, dash: [7, 5], spanGaps: false, points: { show: false } },
        { label: "BT", scale: "c", stroke: this.colours.bt, width: 2.5, spanGaps: false, points: { show: false } }
      ],
      hooks: { drawAxes: [function (u) { self.drawBehind(u); }], draw: [function (u) { self.drawAhead(u); self.drawMarks(u); self.drawNames(u); }], setCursor: [function (u) { self.showCursor(u); }] }
    }, this.data(), this.holders.curve);
    var stepped = window.uPlot.paths.stepped({ align: 1 });
    this.strip = new window.uPlot({
      width: width, height: 124, padding: [4, isNarrow ? 2 : 8, 0, 0], legend: { show: false }, cursor: cursor,
      scales: { x: xScale, s: { range: [0, 3] } },
      axes: [
        xAxis,
        { scale: "s", stroke: ink, font: font, size: sideLeft + label, grid: { stroke: grid, width: 1 }, ticks: { show: false }, splits: function () { return [0, 1, 2, 3]; }, values: function (u, splits) { return splits.map(function () { return ""; }); } },
        { scale: "s", side: 1, size: sideRight + label, stroke: ink, font: font, grid: { show: false }, ticks: { show: false }, values: function (u, splits) { return splits.map(function () { return ""; }); } }
      ],
      series: [{}].concat(LANES.map(function (lane) {
        return { label: lane[1], scale: "s", stroke: self.colours[lane[0]], width: 2, paths: stepped, spanGaps: false, points: { show: false } };
      })),
      hooks: { draw: [function (u) { self.drawSteps(u); }] }
    }, this.stripData(), this.holders.strip);
  };

  Curve.prototype.data = function () {
    var columns = this.columns;
    return [columns.x, columns.rate_of_rise_c_per_min, columns.et_temp_c, columns.bean_temp_c];
  };
  Curve.prototype.stripData = function () {
    var self = this;
    return [this.columns.x].concat(LANES.map(function (lane, index) { return self.lane(lane[0], index); }));
  };
  Curve.prototype.resize = function () {
    var width = Math.max(280, this.holders.curve.clientWidth);
    if (!this.main || Math.abs(this.main.width - width) < 2) return;
    this.rebuild();
  };
  /** Redraw when something changed; called a few times a second. */
  Curve.prototype.draw = function () {
    if (!this.isDirty) return;
    this.isDirty = false;
    this.holders.curve.dataset.points = this.columns.x.length;
    this.main.setData(this.data());
    var self = this, strip = this.strip;  // in a task of its own: nobody's key press waits behind both
    setTimeout(function () { if (strip === self.strip) strip.setData(self.stripData()); }, 0);
  };

  function inPlot(u, draw) {
    var ctx = u.ctx;
    ctx.save();
    ctx.font = 12 * devicePixelRatio + "px " + getComputedStyle(document.body).fontFamily;
    draw(ctx, devicePixelRatio);
    ctx.restore();
  }
  // --- the golden curve behind, the twin ahead (their figures come in °C) -----------------------------
  function degrees(c) { return roastops.shown("bean_temp_c", c); }
  function within(values, bounds, x) {
    var i = 1;
    if (!bounds.length || x < bounds[0] || x > bounds[bounds.length - 1]) return null;
    while (i < bounds.length - 1 && bounds[i] < x) i += 1;
    var share = bounds[i] > bounds[i - 1] ? (x - bounds[i - 1]) / (bounds[i] - bounds[i - 1]) : 0;
    return values[i - 1] + share * (values[i] - values[i - 1]);
  }
  /** A path through (seconds, value) on one scale; broken where a value is missing. */
  function trace(u, ctx, times, values, scale) {
    var isDown = false;
    for (var i = 0; i < times.length; i += 1) {
      if (values[i] === null || values[i] === undefined) { isDown = false; continue; }
      var x = u.valToPos(times[i], "x", true), y = u.valToPos(values[i], scale, true);
      if (isDown) ctx.lineTo(x, y); else ctx.moveTo(x, y);
      isDown = true;
    }
  }
  function band(u, ctx, times, low, high, scale) {
    ctx.beginPath();
    for (var i = 0; i < times.length; i += 1) { var y = u.valToPos(low[i], scale, true), x = u.valToPos(times[i], "x", true); if (i) ctx.lineTo(x, y); else ctx.moveTo(x, y); }
    for (i = times.length - 1; i >= 0; i -= 1) ctx.lineTo(u.valToPos(times[i], "x", true), u.valToPos(high[i], scale, true));
    ctx.closePath();
    ctx.fill();
  }
  function clipped(u, draw) {
    inPlot(u, function (ctx, ratio) {
      ctx.beginPath();
      ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
      ctx.clip();
      draw(ctx, ratio);
    });
  }
  Curve.prototype.drawBehind = function (u) {
    var golden = this.golden, self = this;
    if (!golden) return;
    clipped(u, function (ctx, ratio) {
      ctx.fillStyle = self.colours.edge;
      ctx.globalAlpha = 0.16;
      band(u, ctx, golden.elapsed_s, golden.low_c.map(degrees), golden.high_c.map(degrees), "c");
      self.drawCorridor(u, ctx, golden);
      ctx.globalAlpha = 0.55;
      ctx.strokeStyle = self.colours.edge;
      ctx.lineWidth = 3 * ratio;
      ctx.beginPath();
      trace(u, ctx, golden.elapsed_s, golden.golden_c.map(degrees), "c");
      ctx.stroke();
    });
  };
  /** The corridor of the rate of rise stands over bean temperature: drawn where this roast's own beans are. */
  Curve.prototype.drawCorridor = function (u, ctx, golden) {
    var columns = this.columns, times = [], low = [], high = [], isF = roastops.isFahrenheit;
    var step = Math.max(1, Math.floor(columns.x.length / 300));
    for (var i = 0; i < columns.x.length; i += step) {
      var shown = columns.bean_temp_c[i];
      if (shown === null || columns.x[i] < golden.turning_point_s) continue;
      var beanC = isF ? (shown - 32) / 1.8 : shown;
      var l = within(golden.corridor_low, golden.corridor_bean_c, beanC), h = within(golden.corridor_high, golden.corridor_bean_c, beanC);
      if (l === null || h === null) continue;
      times.push(columns.x[i]);
      low.push(isF ? l * 1.8 : l);
      high.push(isF ? h * 1.8 : h);
    }
    if (times.length < 2) return;
    ctx.fillStyle = this.colours.ror;
    band(u, ctx, times, low, high, "r");
  };
  Curve.prototype.drawAhead = function (u) {
    var self = this, predicted = this.predicted, whatIf = this.whatIf;
    if (!predicted && !whatIf) return;
    clipped(u, function (ctx, ratio) {
      if (predicted) {
        ctx.fillStyle = self.colours.ror;
        ctx.globalAlpha = 0.14;
        band(u, ctx, predicted.times_s, predicted.low_c.map(degrees), predicted.high_c.map(degrees), "c");
        ctx.globalAlpha = 1;
        dotted(u, ctx, ratio, predicted.times_s, predicted.bean_c.map(degrees), self.colours.ror);
      }
      if (whatIf) dotted(u, ctx, ratio, whatIf.times_s, whatIf.with_c.map(degrees), self.colours.bt);
    });
  };
  function dotted(u, ctx, ratio, times, values, stroke) {
    ctx.strokeStyle = stroke;
    ctx.lineWidth = 2 * ratio;
    ctx.setLineDash([2 * ratio, 4 * ratio]);
    ctx.beginPath();
    trace(u, ctx, times, values, "c");
    ctx.stroke();
    ctx.setLineDash([]);
  }
  Curve.prototype.drawMarks = function (u) {
    var self = this;
    inPlot(u, function (ctx, ratio) {
      var row = 0, lastRight = -1e9;
      self.marks.forEach(function (mark) {
        var x = Math.round(u.valToPos(mark.elapsed_ms / 1000, "x", true));
        if (x < u.bbox.left - 1 || x > u.bbox.left + u.bbox.width) return;
        ctx.strokeStyle = self.colours.edge;
        ctx.lineWidth = ratio;
        ctx.setLineDash(mark.source === "person" ? [] : [3 * ratio, 3 * ratio]);
        ctx.beginPath();
        ctx.moveTo(x, u.bbox.top);
        ctx.lineTo(x, u.bbox.top + u.bbox.height);
        ctx.stroke();
        ctx.setLineDash([]);
        ctx.fillStyle = self.colours.ink;
        var words = mark.word + " " + roastops.mmss(mark.elapsed_ms), wide = ctx.measureText(words).width;
        var left = Math.min(x + 4 * ratio, u.bbox.left + u.bbox.width - wide);
        row = left < lastRight + 6 * ratio ? row + 1 : 0;
        lastRight = Math.max(row ? lastRight : -1e9, left + wide);
        ctx.fillText(words, left, u.bbox.top - 6 * ratio + row * 16 * ratio);
      });
    });
  };
  Curve.prototype.drawNames = function (u) {
    var self = this, columns = this.columns, last = columns.x.length - 1;
    if (last < 0) return;
    inPlot(u, function (ctx, ratio) {
      ctx.font = "600 " + ctx.font;
      var used = [];
      [["BT", "bean_temp_c", "c", "bt"], ["ET", "et_temp_c", "c", "et"], ["RoR", "rate_of_rise_c_per_min", "r", "ror"]].forEach(function (line) {
        var value = columns[line[1]][last];
        if (value === null) return;
        var y = u.valToPos(value, line[2], true), x = u.valToPos(columns.x[last], "x", true) + 5 * ratio;
        if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) return;
        used.forEach(function (other) { if (Math.abs(other - y) < 13 * ratio) y = other + (y <= other ? -13 : 13) * ratio; });
        used.push(y);
        ctx.fillStyle = self.colours[line[3]];
        ctx.fillText(line[0], Math.min(x, u.bbox.left + u.bbox.width - ctx.measureText(line[0]).width), y + 4 * ratio);
      });
    });
  };
  Curve.prototype.drawSteps = function (u) {
    var self = this, columns = this.columns;
    inPlot(u, function (ctx, ratio) {
      LANES.forEach(function (lane, index) {
        ctx.fillStyle = colour("quiet");
        ctx.textAlign = "right";
        ctx.fillText(lane[1], u.bbox.left - 6 * ratio, u.valToPos(index + 0.35, "s", true));
        ctx.textAlign = "left";
        ctx.fillStyle = self.colours[lane[0]];
        var steps = columns[lane[0] + "_step"], nextLabel = 1e9;
        for (var i = steps.length - 1; i >= 0; i--) {  // from the newest back: where changes crowd, the later one is named
          if (steps[i] === null || (i > 0 && steps[i - 1] === steps[i])) continue;
          var x = u.valToPos(columns.x[i], "x", true);
          var y = u.valToPos(index + 0.08 + 0.74 * Math.min(1, steps[i] / (self.full[lane[0]] || 10)), "s", true);
          if (nextLabel - x < 16 * ratio) continue;
          var isHigh = steps[i] > (self.full[lane[0]] || 10) / 2;
          ctx.fillText(String(steps[i]), x + 4 * ratio, y + (isHigh ? 13 : -4) * ratio);
          nextLabel = x;
        }
      });
    });
  };
  Curve.prototype.showCursor = function (u) {
    var line = this.holders.cursorLine, i = u.cursor.idx, columns = this.columns;
    if (!line) return;
    line.textContent = i === null || i === undefined || columns.bean_temp_c[i] === null || columns.bean_temp_c[i] === undefined ? "" : this.rowWords(i);
  };
  function figure(value, digits) { return value === null || value === undefined ? "–" : Number(value).toFixed(digits); }
  Curve.prototype.rowWords = function (i) {
    var c = this.columns;
    return roastops.mmss(c.x[i] * 1000) + "  BT " + figure(c.bean_temp_c[i], 1) + "  ET " + figure(c.et_temp_c[i], 1) + "  RoR " + figure(c.rate_of_rise_c_per_min[i], 1) +
      "  H " + figure(c.heater_step[i], 0) + "  F " + figure(c.fan_step[i], 0) + "  D " + figure(c.drum_step[i], 0);
  };

  /** One or two sentences for those who do not see the canvas. */
  Curve.prototype.summary = function () {
    var c = this.columns, last = c.x.length - 1;
    if (last < 0) return "";
    while (last > 0 && c.bean_temp_c[last] === null) last -= 1;
    var before = last;
    while (before > 0 && c.x[last] - c.x[before] < 60) before -= 1;
    var rise = c.bean_temp_c[last] !== null && c.bean_temp_c[before] !== null ? c.bean_temp_c[last] - c.bean_temp_c[before] : null;
    var values = { time: roastops.mmss(c.x[last] * 1000), bt: figure(c.bean_temp_c[last], 1), unit: roastops.degree, change: rise === null ? "" : Math.abs(rise).toFixed(1), ror: figure(c.rate_of_rise_c_per_min[last], 1), et: figure(c.et_temp_c[last], 1) };
    var words = t("At {time} after charge: bean temperature {bt} {unit}", values) +
      (rise === null || before === last ? "" : ", " + (rise >= 0 ? t("up {change} {unit} in the last minute", values) : t("down {change} {unit} in the last minute", values))) +
      ", " + t("rate of rise {ror} {unit}/min, ET {et} {unit}.", values) + " ";
    return words + this.marks.map(function (m) { return t("{mark} at {time}", { mark: m.word, time: roastops.mmss(m.elapsed_ms) }); }).join(", ") + (this.marks.length ? "." : "");
  };
  /** Rows of the table: one every half minute and the newest. */
  Curve.prototype.rows = function () {
    var c = this.columns, rows = [], next = 0;
    for (var i = 0; i < c.x.length; i++) {
      if ((c.x[i] < next && i !== c.x.length - 1) || c.bean_temp_c[i] === null) continue;
      next = (Math.floor(c.x[i] / 30) + 1) * 30;
      rows.push([roastops.mmss(c.x[i] * 1000), figure(c.bean_temp_c[i], 1), figure(c.et_temp_c[i], 1), figure(c.rate_of_rise_c_per_min[i], 1), figure(c.heater_step[i], 0), figure(c.fan_step[i], 0), figure(c.drum_step[i], 0)]);
    }
    return rows.reverse();
  };
  roastops.Curve = Curve;
})();

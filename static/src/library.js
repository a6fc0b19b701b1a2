// The library's pages: charts of roasts and profiles, forms that post to the API, choosing several.
(function () {
  "use strict";
  var roastops = window.roastops, page = document.getElementById("console");
  if (!roastops || !page) return;
  var t = roastops.t;
  var line = document.getElementById("chart-line");
  var RATE = roastops.isFahrenheit ? [-20, 80] : [-10, 45];

  function degrees(values) { return values.map(function (v) { return v === null || v === undefined ? null : roastops.shown("bean_temp_c", v); }); }
  function rates(values) { return values.map(function (v) { return v === null || v === undefined ? null : roastops.shown("rate_c_per_min", v); }); }
  function figure(value, digits) { return value === null || value === undefined ? "–" : Number(value).toFixed(digits); }
  function signed(s) { return (s < 0 ? "−" : "") + roastops.mmss(Math.round(Math.abs(s)) * 1000); }
  function get(path) {
    return fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" }).then(function (answer) {
      if (!answer.ok) throw new Error(t("The curve did not come ({status}). Load the page again.", { status: answer.status }));
      return answer.json();
    });
  }
  function temperatureRange(u, low, high) {
    var step = roastops.isFahrenheit ? 20 : 10;
    return [Math.floor(((low === null ? 50 : low) - 2) / step) * step, Math.ceil(((high === null ? 240 : high) + 0.9 * step) / step) * step];
  }
  /** Steps at every row from the moves [elapsed_s, step]. */
  function atRows(times, moves) {
    var next = 0, now = null;
    return times.map(function (at) {
      while (next < moves.length && moves[next][0] <= at) { now = moves[next][1]; next += 1; }
      return now;
    });
  }

  var LANES = { heater: t("Heater"), fan: t("Fan"), drum: t("Drum") };

  // --- one roast ---------------------------------------------------------------------------------------
  var holder = document.getElementById("chart");
  if (holder && roastops.Chart) get(holder.dataset.curve).then(function (curve) { drawRoast(holder, curve); }, function (error) { roastops.notice(error.message, true); });

  function withGaps(curve) {
    // A hole in the record is drawn as one: a row without values after its last reading.
    var names = Object.keys(curve.columns), x = [], columns = {};
    names.forEach(function (name) { columns[name] = []; });
    curve.elapsed_s.forEach(function (at, i) {
      if (i && at - x[x.length - 1] > 3) { x.push(x[x.length - 1] + 0.01); names.forEach(function (name) { columns[name].push(null); }); }
      x.push(at);
      names.forEach(function (name) { columns[name].push(curve.columns[name][i]); });
    });
    return { x: x, columns: columns };
  }
  function drawRoast(holder, curve) {
    if (!curve.elapsed_s.length) { holder.textContent = t("This roast has no samples."); return; }
    var whole = withGaps(curve), x = whole.x, columns = whole.columns, full = JSON.parse(holder.dataset.fullScale || "{}");
    var et = columns.environment_temp_c || columns.infrared_temp_c, lines = [];
    if (columns.bean_temp_c) lines.push({ name: "BT", short: "BT", scale: "c", values: degrees(columns.bean_temp_c), style: 0 });
    if (et) lines.push({ name: "ET", short: "ET", scale: "c", values: degrees(et), style: 2 });
    lines.push({ name: t("RoR, causal"), short: t("RoR causal"), scale: "r", values: rates(columns.causal_rate), style: 1 });
    lines.push({ name: t("RoR, centred"), short: t("centred"), scale: "r", values: rates(columns.centred_rate), style: 3 });
    var steps = { heater: atRows(x, curve.controls.heater || []), fan: atRows(x, curve.controls.fan || []), drum: atRows(x, curve.controls.drum || []) };
    var span = [x[0], x[x.length - 1]], marks = JSON.parse(holder.dataset.marks || "[]").map(function (mark) {
      return { at: mark.elapsed_ms / 1000, word: mark.word + " " + signed(mark.elapsed_ms / 1000), isFirm: mark.source === "person" };
    });
    function words(i) {
      if (i === null || i === undefined || !line) return;
      line.textContent = signed(x[i]) + "  BT " + figure(lines[0].values[i], 1) + (et ? "  ET " + figure(degrees([et[i]])[0], 1) : "") + "  RoR " + figure(rates([columns.causal_rate[i]])[0], 1) +
        "  " + t("centred") + " " + figure(rates([columns.centred_rate[i]])[0], 1) + "  " + LANES.heater + " " + figure(steps.heater[i], 0) + "  " + LANES.fan + " " + figure(steps.fan[i], 0) + "  " + LANES.drum + " " + figure(steps.drum[i], 0);
    }
    var top = document.createElement("div"), strip = document.createElement("div");
    holder.append(top, strip);
    new roastops.Chart(top, {
      height: function (w) { return w < 560 ? 300 : 400; }, x: x, lines: lines, marks: marks, sync: "roast", noTimes: true, onCursor: words,
      yLabel: roastops.degree, rLabel: "RoR " + roastops.degree + "/min", range: { x: function () { return span; }, c: temperatureRange, r: RATE }
    });
    var lanes = ["drum", "fan", "heater"].filter(function (name) { return (curve.controls[name] || []).length; });
    if (lanes.length) new roastops.Chart(strip, {
      height: function () { return 44 + 34 * lanes.length; }, x: x, sync: "roast", onCursor: words, yLabel: " ", lanes: lanes.map(function (name) { return LANES[name]; }),
      lines: lanes.map(function (name, lane) { return { name: name, scale: "c", stepped: true, style: lane, values: steps[name].map(function (s) { return s === null ? null : lane + 0.08 + 0.62 * Math.min(1, s / (full[name] || 10)); }) }; }),
      labels: stepLabels(curve.controls, lanes, full, (span[1] - span[0]) / Math.max(300, holder.clientWidth) * 18),
      range: { x: function () { return span; }, c: function () { return [0, lanes.length]; } }
    });
    fillTable(x, columns, et, steps);
  }
  function stepLabels(controls, lanes, full, apart) {
    var labels = [];
    lanes.forEach(function (name, lane) {
      var last = -1e9;
      controls[name].forEach(function (move) {
        if (move[0] - last < apart) return;
        last = move[0];
        labels.push({ x: move[0], y: lane + 0.08 + 0.62 * Math.min(1, move[1] / (full[name] || 10)), word: String(move[1]) });
      });
    });
    return labels;
  }
  function fillTable(x, columns, et, steps) {
    var body = document.querySelector("#curve-table tbody"), next = -1e9;
    if (!body) return;
    x.forEach(function (at, i) {
      if (at < next && i !== x.length - 1) return;
      next = (Math.floor(at / 30) + 1) * 30;
      var row = document.createElement("tr");
      [signed(at), figure(degrees([columns.bean_temp_c ? columns.bean_temp_c[i] : null])[0], 1), figure(et ? degrees([et[i]])[0] : null, 1), figure(rates([columns.causal_rate[i]])[0], 1),
        figure(rates([columns.centred_rate[i]])[0], 1), figure(steps.heater[i], 0), figure(steps.fan[i], 0), figure(steps.drum[i], 0)].forEach(function (words) {
        row.appendChild(Object.assign(document.createElement("td"), { textContent: words }));
      });
      body.appendChild(row);
    });
  }

  // --- several, laid over each other ---------------------------------------------------------------------
  var compared = document.getElementById("compare-chart");
  if (compared && roastops.Chart) drawCompared(compared);
  function drawCompared(holder) {
    var laid = JSON.parse(holder.dataset.laid), legend = document.getElementById("compare-legend");
    laid.forEach(function (one, i) {
      var item = document.createElement("li");
      item.append(roastops.Chart.sample(i), " " + one.title + (one.zero_s === null ? " (" + t("has no such moment") + ")" : ""));
      legend.appendChild(item);
    });
    var drawn = laid.filter(function (one) { return one.zero_s !== null; });
    Promise.all(drawn.map(function (one) { return get("/v1/roasts/" + one.roast_id + "/curve"); })).then(function (curves) {
      var low = 0, high = 60, rows = [];
      drawn.forEach(function (one, i) {
        var times = curves[i].elapsed_s;
        if (!times.length) return;
        low = Math.min(low, Math.max(0, times[0]) - one.zero_s);
        high = Math.max(high, end(one, times) - one.zero_s);
      });
      for (var at = Math.floor(low); at <= high; at += 1) rows.push(at);
      var lines = [];
      drawn.forEach(function (one, i) {
        var style = laid.indexOf(one);
        lines.push({ name: one.title, short: style === 0 ? "BT" : "", scale: "c", style: style, values: degrees(onGrid(curves[i].elapsed_s, curves[i].columns.bean_temp_c || [], rows, one.zero_s, end(one, curves[i].elapsed_s))) });
        lines.push({ name: one.title + " RoR", short: style === 0 ? "RoR" : "", scale: "r", style: style, values: rates(onGrid(curves[i].elapsed_s, curves[i].columns.causal_rate, rows, one.zero_s, end(one, curves[i].elapsed_s))) });
      });
      new roastops.Chart(holder, {
        height: function (w) { return w < 560 ? 330 : 460; }, x: rows, lines: lines, marks: [{ at: 0, word: "0:00", isFirm: true }], yLabel: roastops.degree, rLabel: "RoR " + roastops.degree + "/min",
        range: { x: function () { return [rows[0], rows[rows.length - 1]]; }, c: temperatureRange, r: RATE },
        onCursor: function (i) {
          if (!line || i === null || i === undefined) return;
          line.textContent = signed(rows[i]) + "  " + drawn.map(function (one, n) { return one.title + " " + figure(lines[2 * n].values[i], 1); }).join("  ");
        }
      });
    }).catch(function (error) { roastops.notice(error.message, true); });
  }
  function end(one, times) { return one.end_s === null ? times[times.length - 1] : one.end_s; }
  /** Values at whole seconds from charge to the end: the last one known at or before each, none over a hole. */
  function onGrid(times, values, rows, zero, end) {
    var i = -1;
    return rows.map(function (row) {
      var at = row + zero;
      while (i + 1 < times.length && times[i + 1] <= at) i += 1;
      return i < 0 || at - times[i] > 3 || at < 0 || at > end ? null : values[i];
    });
  }

  // --- a profile --------------------------------------------------------------------------------------
  var golden = document.getElementById("profile-chart");
  if (golden && roastops.Chart) drawProfile(golden, JSON.parse(golden.dataset.profile));
  function drawProfile(holder, p) {
    var names = { turning_point: t("Turning point"), dry_end: t("Dry end"), first_crack_start: t("First crack"), drop: t("Drop") };
    var marks = Object.keys(names).filter(function (kind) { return p.landmarks_s[kind] !== undefined; }).map(function (kind) {
      return { at: p.landmarks_s[kind], word: names[kind] + " " + signed(p.landmarks_s[kind]), isFirm: true };
    });
    var temps = degrees(p.golden_c);
    new roastops.Chart(holder, {
      height: function (w) { return w < 560 ? 280 : 360; }, x: p.elapsed_s, lines: [{ name: t("Golden"), short: t("Golden"), scale: "c", style: 0, values: temps }], marks: marks, yLabel: roastops.degree,
      bands: [{ x: p.elapsed_s, low: degrees(p.low_c), high: degrees(p.high_c), scale: "c", tone: "edge" }],
      range: { x: function () { return [0, Math.max(p.elapsed_s[p.elapsed_s.length - 1], p.landmarks_s.drop || 0)]; }, c: temperatureRange },
      onCursor: function (i) { if (line && i !== null && i !== undefined) line.textContent = signed(p.elapsed_s[i]) + "  " + figure(temps[i], 1) + " " + roastops.degree; }
    });
    var low = rates(p.corridor_low), high = rates(p.corridor_high), bean = degrees(p.corridor_bean_c), corridor = document.getElementById("corridor-chart");
    if (!bean.length || !corridor) return;
    new roastops.Chart(corridor, {
      height: function () { return 240; }, x: bean, lines: [{ name: t("Middle"), short: "RoR", scale: "c", style: 1, values: rates(p.corridor_middle) }], yLabel: roastops.degree + "/min",
      bands: [{ x: bean, low: low, high: high, scale: "c", tone: "ror" }], xWords: function (u, splits) { return splits.map(function (v) { return v + " " + roastops.degree; }); },
      range: { x: function () { return [bean[0], bean[bean.length - 1]]; }, c: function () { return [Math.min(0, Math.floor(Math.min.apply(null, low))), Math.ceil(Math.max.apply(null, high)) + 2]; } }
    });
  }

  // --- forms --------------------------------------------------------------------------------------------
  /** "7:05", "425" or "7:05.5" as milliseconds; null for anything else. */
  function milliseconds(text) {
    var parts = /^\s*(?:(\d{1,3}):)?(\d{1,5}(?:[.,]\d+)?)\s*$/.exec(text);
    if (!parts || (parts[1] !== undefined && parseFloat(parts[2].replace(",", ".")) >= 60)) return null;
    return Math.round((Number(parts[1] || 0) * 60 + parseFloat(parts[2].replace(",", "."))) * 1000);
  }
  function number(text) { return text.trim() === "" ? null : Number(text.replace(",", ".")); }
  function send(form, path, body, done) {
    var buttons = form.querySelectorAll("button");
    buttons.forEach(function (b) { b.disabled = true; });
    return roastops.post(path, body).then(done || function () { location.reload(); }, function (error) {
      roastops.notice(error.message, true);
      buttons.forEach(function (b) { b.disabled = false; });
    });
  }
  function refuse(words, input) { roastops.notice(words, true); if (input) input.focus(); }
  var roastPath = holder ? holder.dataset.curve.replace(/\/curve$/, "") : "";

  var ACTS = {
    mark: function (form) {
      var body = { action: form.dataset.mark };
      if (form.dataset.event) body.event_id = form.dataset.event;
      if (form.elements.at) {
        body.elapsed_ms = milliseconds(form.elements.at.value);
        if (body.elapsed_ms === null) return refuse(t("Write the time as minutes and seconds, such as 7:30."), form.elements.at);
      }
      if (form.elements.kind) { body.kind = form.elements.kind.value; body.text = form.elements.text.value; }
      send(form, roastPath + "/events", body);
    },
    describe: function (form) {
      var body = {}, bad = null, count = 0;
      form.querySelectorAll("[data-was]").forEach(function (input) {
        if (input.value.trim() === input.dataset.was.trim()) return;
        count += 1;
        body[input.name] = "number" in input.dataset ? number(input.value) : input.value.trim();
        if (Number.isNaN(body[input.name])) bad = input;
      });
      if (bad) return refuse(t("That is no number."), bad);
      if (!count) return refuse(t("Nothing was changed."), null);
      if (form.elements.reason) body.reason = form.elements.reason.value;
      send(form, form.dataset.path, body);
    },
    note: function (form) {
      var body = { attributes: {}, defects: [], text: form.elements.text.value }, bad = null;
      form.querySelectorAll("[data-number]").forEach(function (input) { body[input.name] = number(input.value); if (Number.isNaN(body[input.name])) bad = input; });
      form.querySelectorAll("[data-attribute]").forEach(function (input) {
        var value = number(input.value);
        if (Number.isNaN(value)) bad = input;
        if (value !== null) body.attributes[input.dataset.attribute] = value;
      });
      form.querySelectorAll("[data-defect]:checked").forEach(function (box) { body.defects.push(box.dataset.defect); });
      if (bad) return refuse(t("That is no number."), bad);
      send(form, form.dataset.path, body);
    },
    follow: function (form) { send(form, form.dataset.path, { version_id: form.elements.version_id.value || null, reason: form.elements.reason ? form.elements.reason.value : "" }); },
    machine: function (form) { send(form, form.dataset.follow, { version_id: form.dataset.version || null }); },
    archive: function (form) { send(form, form.dataset.path, { is_archived: !form.dataset.archived }); },
    profile: function (form) {
      var ids = chosen();
      if (!ids.length) return refuse(t("Choose at least one roast first."), null);
      var body = { change_note: form.elements.change_note.value, roast_ids: ids }, of = form.elements.profile_id.value;
      if (!of) Object.assign(body, { name: form.elements.name.value, bean: form.elements.bean.value });
      send(form, of ? "/v1/profiles/" + of + "/versions" : "/v1/profiles", body, function (made) { location.assign("/profiles/" + made.profile_id + "/"); });
    }
  };
  document.addEventListener("submit", function (event) {
    var form = event.target, act = form.dataset.mark ? "mark" : form.dataset.follow !== undefined ? "machine" : { describe: "describe", note: "note", follow: "follow", archive: "archive", "make-profile-form": "profile" }[form.id];
    if (!act) return;
    event.preventDefault();
    ACTS[act](form);
  });

  // --- choosing -------------------------------------------------------------------------------------------
  var list = document.getElementById("library-list"), dialog = document.getElementById("make-profile");
  function chosen() { return list ? Array.from(list.querySelectorAll('input[name="ids"]:checked'), function (box) { return box.value; }) : []; }
  if (list) {
    var count = list.querySelector("[data-chosen-count]");
    list.addEventListener("change", function () { count.textContent = chosen().length ? "(" + chosen().length + ")" : ""; });
    list.addEventListener("submit", function (event) {
      if (chosen().length >= 2 && chosen().length <= 6) return;
      event.preventDefault();
      roastops.notice(t("Choose two to six roasts to compare."), true);
    });
  }
  if (dialog) {
    document.getElementById("make-profile-open").addEventListener("click", function () {
      if (chosen().length) roastops.openDialog(dialog); else roastops.notice(t("Choose the roasts first."), true);
    });
    dialog.querySelector("[data-close]").addEventListener("click", function () { dialog.close(); });
    var newOnly = document.getElementById("profile-new");  // a version has its profile's name and bean
    document.getElementById("profile-of").addEventListener("change", function () { newOnly.hidden = newOnly.disabled = this.value !== ""; });
  }
})();

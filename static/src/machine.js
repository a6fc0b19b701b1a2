// The machine page: figures, phases, marks, a person's own orders, "I have it".
(function () {
  "use strict";
  var FIGURES_MS = 250, CURVE_MS = 400, WORDS_MS = 10000, GATHER_MS = 450;
  var roastops = window.roastops, t = roastops.t, page = document.getElementById("console"), machineId = page.dataset.machine;
  var roast = null, curve = null, elapsedMs = null, loadedRoastId = null, isStale = true, isLoading = false, held = [];

  function readRoast() {
    var box = document.getElementById("roast-data");
    roast = box && box.dataset.roast ? JSON.parse(box.dataset.roast) : null;
  }
  function markAt(kind) {
    var mark = roast && roast.marks.find(function (m) { return m.kind === kind; });
    return mark ? mark.elapsed_ms : null;
  }
  function elapsedOf(reading) {
    if (!roast || !roast.is_open) return null;
    if (reading.roast_id && reading.roast_id !== roast.roast_id) return null;
    if (reading.elapsed_ms !== undefined && reading.elapsed_ms !== null) return reading.elapsed_ms;
    if (reading.device_ms === undefined || reading.device_ms === null) return null;
    var ms = reading.device_ms - roast.device_start_ms;
    return ms >= 0 ? ms : null;
  }

  // --- phases ------------------------------------------------------------------------------------
  function showPhases() {
    var box = document.getElementById("phases");
    var end = markAt("drop");
    if (end === null && roast && roast.is_open) end = elapsedMs;
    if (end === null && roast && curve && loadedRoastId === roast.roast_id) end = curve.lastX() * 1000;
    var dry = markAt("dry_end"), crack = markAt("first_crack_start");
    var spans = { drying: null, maillard: null, development: null };
    if (end !== null && end > 0) {
      if (crack !== null && dry === null) spans.drying = [0, Math.min(crack, end)];
      else spans.drying = [0, dry === null ? end : Math.min(dry, end)];
      if (dry !== null) spans.maillard = [dry, crack === null ? end : Math.min(crack, end)];
      if (crack !== null) spans.development = [crack, end];
    }
    var now = crack !== null ? "development" : dry !== null ? "maillard" : "drying";
    if (box) box.querySelectorAll("[data-phase]").forEach(function (phase) {
      var span = spans[phase.dataset.phase], length = span ? Math.max(0, span[1] - span[0]) : 0;
      phase.dataset.empty = span ? "" : "yes";
      phase.dataset.now = roast && roast.is_open && phase.dataset.phase === now && markAt("drop") === null ? "yes" : "";
      phase.style.flexGrow = span ? Math.max(length, end * 0.16) : "";
      phase.querySelector(".phase-figures").textContent = span ? roastops.mmss(length) + (length < end ? " · " + Math.round(100 * length / end) + " %" : "") : "–";
      var name = phase.querySelector(".phase-name");
      if (phase.dataset.phase === "drying") name.textContent = crack !== null && dry === null ? t("Drying and Maillard (dry end not marked)") : t("Drying");
    });
    var development = spans.development ? spans.development[1] - spans.development[0] : null;
    if (!roast || !roast.is_open) development = end = null;  // figures are of now; a finished roast's stand in the strip
    put("[data-development]", development === null ? "–" : roastops.mmss(development));
    put("[data-dtr]", development === null ? "–" : (100 * development / end).toFixed(1) + " %");
    put("[data-elapsed-now]", end === null ? "–" : roastops.mmss(end));
  }
  function put(selector, text) {
    document.querySelectorAll(selector).forEach(function (box) { if (box.textContent !== text) box.textContent = text; });
  }

  // --- curve -------------------------------------------------------------------------------------
  function startCurve() {
    var full = {};
    document.querySelectorAll("[data-control]").forEach(function (c) { full[c.dataset.control] = Number(c.dataset.full); });
    curve = new roastops.Curve({ curve: document.getElementById("curve"), strip: document.getElementById("strip"), cursorLine: document.getElementById("cursor-line") }, full);
    curve.setMarks(roast ? roast.marks : []);
    loadCurve();
  }
  function showEmpty() {
    var isEmpty = !roast;
    document.getElementById("curve-empty").hidden = !isEmpty;
    document.getElementById("curve").hidden = isEmpty;
    document.getElementById("strip").hidden = isEmpty;
  }
  function loadCurve() {
    showEmpty();
    if (!roast || isLoading) return;
    isLoading = true;
    isStale = false;
    var id = roast.roast_id;
    fetch("/v1/roasts/" + encodeURIComponent(id) + "/samples?fields=bean_temp_c,infrared_temp_c,environment_temp_c,rate_of_rise_c_per_min,heater_step,fan_step,drum_step", { headers: { Accept: "application/json" }, cache: "no-store" })
      .then(function (answer) { if (!answer.ok) throw new Error(String(answer.status)); return answer.json(); })
      .then(function (samples) {
        curve.load(samples);
        loadedRoastId = id;
        held.forEach(function (row) { if (row[2] === id) curve.add(row[0], row[1]); });
        held = [];
        curve.resize();
        setTimeout(function () { curve.draw(); }, 0);  // a long roast is parsed, drawn and told in tasks of their own
        setTimeout(function () { showPhases(); words(); }, 0);
      })
      .catch(function () { isStale = true; setTimeout(function () { isLoading = false; if (isStale) loadCurve(); }, 3000); })
      .finally(function () { isLoading = false; if (roast && roast.roast_id !== loadedRoastId && !isStale) loadCurve(); });
  }
  function words() {
    if (!curve) return;
    document.getElementById("curve-summary").textContent = curve.summary();
    var table = document.getElementById("curve-table");
    if (table.open) {
      var body = table.querySelector("tbody");
      body.textContent = "";
      curve.rows().forEach(function (row) {
        var line = body.insertRow();
        row.forEach(function (cell, i) {
          if (i === 0) { var head = document.createElement("th"); head.scope = "row"; head.textContent = cell; line.append(head); }
          else line.insertCell().textContent = cell;
        });
      });
    }
  }

  var shownAt = 0;
  roastops.readingListeners.push(function (id, reading) {
    if (id !== machineId) return;
    if (reading.roast_id && (!roast || (reading.roast_id !== roast.roast_id && roast.is_open !== undefined))) {
      if (!roast || roast.asked !== reading.roast_id) { if (roast) roast.asked = reading.roast_id; throttledRoast(); }
    }
    var ms = elapsedOf(reading);
    if (ms !== null) {
      elapsedMs = ms;
      if (curve && loadedRoastId === roast.roast_id && !isLoading) curve.add(ms, reading);
      else if (held.length < 600) held.push([ms, reading, roast.roast_id]);
    }
    var now = performance.now();
    if (now - shownAt < FIGURES_MS) return;
    shownAt = now;
    roastops.show(document, reading);
    showPercents(reading);
    showPhases();
  });
  var askedAt = -1e9;
  function throttledRoast() {
    if (performance.now() - askedAt < 2000) return;
    askedAt = performance.now();
    roastops.refresh("roast");
  }
  function showPercents(reading) {
    document.querySelectorAll("[data-control]").forEach(function (control) {
      var step = reading[control.dataset.control + "_step"], full = Number(control.dataset.full);
      var box = control.querySelector("[data-percent-of]");
      if (box) box.textContent = step === null || step === undefined || !full ? "" : Math.round(100 * step / full) + " %";
    });
  }
  setInterval(function () { if (curve && !document.hidden) curve.draw(); }, CURVE_MS);
  setInterval(words, WORDS_MS);
  document.getElementById("curve-table").addEventListener("toggle", words);
  document.body.addEventListener("ro:all", function () { isStale = true; });
  roastops.refreshListeners.push(function (target) {
    if (target.id === "roast") {
      readRoast();
      if (!curve) return;
      curve.setMarks(roast ? roast.marks : []);
      if (roast && (roast.roast_id !== loadedRoastId || isStale)) {
        if (roast.roast_id !== loadedRoastId) { elapsedMs = null; curve.clear(); }
        loadCurve();
      }
      showEmpty();
      showPhases();
    }
    if (target.id === "hands") { showHave(); showAttendance(); }
    if (roastops.latest[machineId]) { roastops.show(target, roastops.latest[machineId]); showPercents(roastops.latest[machineId]); }
  });

  // --- marks -------------------------------------------------------------------------------------
  function event(body, done) {
    if (!roast) return;
    roastops.post("/v1/roasts/" + encodeURIComponent(roast.roast_id) + "/events", body).then(function () {
      roastops.say(done);
      roastops.refresh("roast_event");
    }, function (error) { roastops.notice(error.message, true); roastops.refresh("roast_event"); });
  }
  function mark(kind, word) {
    if (!roast || !roast.is_open || elapsedMs === null) return roastops.notice(t("Nothing to mark: no roast is under way."), true);
    var at = elapsedMs;
    event({ action: "mark", kind: kind, elapsed_ms: Math.round(at) }, t("{mark} marked at {time}.", { mark: word, time: roastops.mmss(at) }));
  }
  document.addEventListener("click", function (click) {
    var button = click.target.closest("button");
    if (!button) return;
    if (button.dataset.mark) mark(button.dataset.mark, button.dataset.word);
    if (button.dataset.back) {
      var at = Math.max(0, Number(button.dataset.elapsedMs) - 1000 * Number(button.dataset.back));
      event({ action: "correct", event_id: button.dataset.markId, elapsed_ms: at }, t("Set back to {time}.", { time: roastops.mmss(at) }));
    }
    if (button.dataset.withdraw) event({ action: "withdraw", event_id: button.dataset.withdraw }, t("{mark} withdrawn.", { mark: button.dataset.word }));
    if (button.dataset.step) nudge(button.closest("[data-control]"), Number(button.dataset.step));
    if (button.dataset.byHand) byHand(button.dataset.byHand === "open");
    if (button.id === "attend") attend();
    if (button.id === "have-it") have(button.dataset.suspended !== "yes");
  });
  /** Of a machine that tells no state: the beans went in now, or this roast is over. */
  function byHand(isOpening) {
    roastops.post("/v1/machines/" + encodeURIComponent(machineId) + "/roasts" + (isOpening ? "" : "/close"), {}).then(function () {
      roastops.say(isOpening ? t("Charged now: the roast is open.") : t("The roast is closed."));
      roastops.refresh("roast");
    }, function (error) { roastops.notice(error.message, true); roastops.refresh("roast"); });
  }
  function press(selector) {
    return function () { var button = document.querySelector(selector); if (button && !button.disabled) button.click(); };
  }
  [["d", "dry_end"], ["f", "first_crack_start"], ["g", "first_crack_end"], ["2", "second_crack_start"], ["o", "drop"]].forEach(function (pair) {
    roastops.keys[pair[0]] = press('[data-mark="' + pair[1] + '"]');
  });
  roastops.keys["-"] = press('[data-back="5"][data-last="yes"]');
  roastops.keys["h"] = function () {
    var button = document.getElementById("have-it");
    if (button && button.dataset.suspended !== "yes") have(true);  // giving back has no key: it is the risky way
  };

  // --- a person's own orders: presses within half a second become one order -------------------------
  var wanted = {};
  function nudge(control, by) {
    var name = control.dataset.control, reading = roastops.latest[machineId] || {};
    var now = reading[name + "_step"];
    var note = control.querySelector("[data-note]");
    if (now === null || now === undefined) return roastops.notice(t("No reading of this control yet: nothing was asked."), true);
    var entry = wanted[name] || { target: now, word: control.getAttribute("aria-label") };
    entry.target = Math.min(Number(control.dataset.max), Math.max(Number(control.dataset.min), entry.target + by));
    clearTimeout(entry.timer);
    wanted[name] = entry;
    note.textContent = now + " → " + entry.target + " …";
    entry.timer = setTimeout(function () {
      delete wanted[name];
      var fresh = document.querySelector('[data-control="' + name + '"] [data-note]') || note;
      if (entry.target === (roastops.latest[machineId] || {})[name + "_step"]) { fresh.textContent = ""; return; }
      fresh.textContent = t("{from} → {to} sent", { from: now, to: entry.target });
      roastops.post("/v1/proposals", { machine_id: machineId, order_type: control.dataset.orderType, target_value: entry.target, target_unit: "step", reasoning: "By hand in the console." }, {
        label: entry.word + " " + now + " → " + entry.target,
        isWanted: function () { return (roastops.latest[machineId] || {})[name + "_step"] === now; }  // it was not moved meanwhile
      }).then(function (order) {
        var refusal = roastops.refusal(order);
        if (refusal) roastops.notice(refusal, true);
        fresh.textContent = "";
        roastops.refresh("proposal");
      }, function (error) { fresh.textContent = ""; roastops.notice(error.message, true); });
    }, GATHER_MS);
  }

  // --- "I have it" -------------------------------------------------------------------------------
  function have(isTaking) {
    roastops.post("/v1/machines/" + encodeURIComponent(machineId) + (isTaking ? "/suspend" : "/resume"), isTaking ? {} : { what: "agents" }).then(function () {
      roastops.notice(isTaking ? t("You have it. No agent may act on this machine.") : t("Given back. Agents may act as far as they are trusted."));
      roastops.refresh("suspension");
      roastops.refresh("proposal");
    }, function (error) { roastops.notice(error.message, true); roastops.refresh("suspension"); });
  }
  // --- "I am here" -------------------------------------------------------------------------------
  function attend() {
    roastops.post("/v1/machines/" + encodeURIComponent(machineId) + "/attend", {}, { label: t("I am here") }).then(function () {
      roastops.notice(t("Noted: you are at this machine."));
      roastops.refresh("attendance");
    }, function (error) { roastops.notice(error.message, true); });
  }
  roastops.keys["p"] = press("#attend");
  var wasHere = false;
  function showAttendance() {
    var box = document.getElementById("attendance"), line = box && box.querySelector("[data-attendance]");
    var left = box && box.dataset.until ? Date.parse(box.dataset.until) - roastops.now() : 0;
    if (line) { line.textContent = left > 0 ? roastops.mmss(left + 999) : t("no longer"); line.dataset.ends = left < 60000 ? "soon" : ""; }
    if (wasHere && left <= 0) roastops.refresh("attendance");
    wasHere = left > 0;
  }
  setInterval(showAttendance, 500);
  function showHave() {
    var box = document.getElementById("suspension"), button = document.getElementById("have-it");
    if (!box || !button) return;
    var isSuspended = box.dataset.suspended === "yes";
    if (button.dataset.suspended === (isSuspended ? "yes" : "")) return;
    button.dataset.suspended = isSuspended ? "yes" : "";
    button.textContent = isSuspended ? t("Give it back") : t("I have it") + " ";
    if (!isSuspended) button.append(Object.assign(document.createElement("kbd"), { textContent: "H" }));
  }

  /** For outlook.js: what this page knows of the roast that is under way. */
  roastops.live = { roast: function () { return roast; }, curve: function () { return curve; }, elapsedMs: function () { return roast && roast.is_open ? elapsedMs : null; } };
  document.addEventListener("DOMContentLoaded", function () { readRoast(); startCurve(); showPhases(); });
})();

// What will come: the golden curve behind, the twin ahead, the plan for the end, and the last 90 seconds.
// Everything here is asked for beside the stream and may be missing; nothing here is needed to approve or to stop.
(function () {
  "use strict";
  var EVERY_MS = 3000, TICK_MS = 250, ENDING_S = 90, QUIET_S = 20, BEANS_S = 180;
  var roastops = window.roastops, page = document.getElementById("console");
  if (!page || !roastops || !roastops.live) return;
  var t = roastops.t;
  var machineId = page.dataset.machine, mayOperate = page.dataset.mayOperate === "yes";
  var outlook = null, isAsking = false, isLeft = false, goldenOf = null, wasEnding = false;
  var box = document.getElementById("ending");

  function put(name, text) {
    document.querySelectorAll('[data-ending="' + name + '"]').forEach(function (e) { if (e.textContent !== text) e.textContent = text; });
  }
  function seconds(s) { return s === null || s === undefined || isNaN(s) ? "–" : (s < 0 ? "+" : "") + roastops.mmss(Math.abs(s) * 1000); }
  function degrees(c) { return (roastops.isFahrenheit ? c * 1.8 + 32 : c).toFixed(1) + " " + roastops.degree; }

  // --- asking ------------------------------------------------------------------------------------
  function ask() {
    var roast = roastops.live.roast();
    if (isAsking || document.hidden || !roast || !roast.is_open) { if (!roast || !roast.is_open) { outlook = null; show(); } return; }
    isAsking = true;
    fetch("/v1/machines/" + encodeURIComponent(machineId) + "/outlook", { headers: { Accept: "application/json" }, cache: "no-store" })
      .then(function (answer) { if (!answer.ok) throw new Error(String(answer.status)); return answer.json(); })
      .then(function (found) { outlook = found; show(); }, function () { outlook = null; show(); })
      .finally(function () { isAsking = false; });
  }
  function askGolden() {
    var roast = roastops.live.roast();
    if (!roast || goldenOf === roast.roast_id + "|" + markAt("first_crack_start")) return;
    var id = roast.roast_id, key = (goldenOf = id + "|" + markAt("first_crack_start"));
    fetch("/v1/roasts/" + encodeURIComponent(id) + "/golden", { headers: { Accept: "application/json" } })
      .then(function (answer) { return answer.ok ? answer.json() : null; })
      .then(function (golden) {
        if (goldenOf !== key) return;
        var curve = roastops.live.curve();
        if (curve) curve.setGolden(golden && golden.profile_name ? golden : null);
        var line = document.getElementById("golden-line");
        if (line) line.textContent = golden && golden.profile_name ? t("Golden: {name} v{version}", { name: golden.profile_name, version: golden.version }) : "";
      }, function () { goldenOf = null; });
  }

  // --- what the twin says ------------------------------------------------------------------------
  /** Which end of the plan comes first, in the person's units. */
  function planWords() {
    var byTemperature = outlook.by_temperature, plan = outlook.plan;
    if (plan.drop_temp_c !== null && byTemperature && byTemperature.elapsed_s === outlook.drop.elapsed_s) return t("at {temperature}", { temperature: degrees(plan.drop_temp_c) });
    return plan.development_s === null ? t("no plan") : t("after {time} of development", { time: roastops.mmss(plan.development_s * 1000) });
  }
  /** The twin's own sentence, its temperatures as the person reads them. */
  function inUnits(sentence) {
    return roastops.isFahrenheit ? sentence.replace(/(-?\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))? °C/g, function (all, low, high) {
      function shown(c) { return String(Math.round(Number(c) * 1.8 + 32)); }
      return shown(low) + (high ? "-" + shown(high) : "") + " °F";
    }) : sentence;
  }
  /** The same sentence (roasts/outlook.py) in the page's language; one of another form as it stands. */
  function twinWords(sentence) {
    var found = /^Twin: (.+?)\.(?: Batch weight not entered: (\S+) g assumed\.)?(?: Extrapolating: (.+)\.)?$/.exec(sentence);
    if (!found) return sentence;
    var shipped = /^shipped defaults: (.+), fitted on (\d+) recorded roasts$/.exec(found[1]), own = /^fitted on (\d+) roasts$/.exec(found[1]);
    var origin = shipped ? t("shipped defaults: {what}, fitted on {count} recorded roasts", { what: shipped[1], count: shipped[2] })
      : own ? t("fitted on {count} roasts", { count: own[1] }) : found[1];
    return t("Twin: {origin}.", { origin: origin }) + (found[2] ? " " + t("Batch weight not entered: {mass} g assumed.", { mass: found[2] }) : "") +
      (found[3] ? " " + t("Extrapolating: {why}.", { why: found[3].split("; ").map(roastops.whatIf.whyWords).join("; ") }) : "");
  }
  function etaWords(eta, elapsedS) {
    if (!eta || eta.elapsed_s === null) return "–";
    var left = eta.elapsed_s - elapsedS;
    var words = left <= 0 ? t("now") : t("in {time}", { time: seconds(left) });
    if (eta.low_s !== null && eta.high_s !== null) words += " (" + seconds(Math.max(0, eta.low_s - elapsedS)) + "–" + seconds(eta.high_s - elapsedS) + ")";
    return words;
  }
  function show() {
    var elapsedMs = roastops.live.elapsedMs(), elapsedS = elapsedMs === null ? null : elapsedMs / 1000;
    var curve = roastops.live.curve();
    if (curve) curve.setPredicted(outlook ? outlook.prediction : null);
    var isNow = outlook && elapsedS !== null;
    text("eta-first-crack", isNow ? (outlook.first_crack ? etaWords(outlook.first_crack, elapsedS) : "–") : "–");
    text("eta-drop", isNow ? (outlook.drop ? etaWords(outlook.drop, elapsedS) : "–") : "–");
    text("eta-drop-label", isNow && outlook.drop ? t("plan: {plan}", { plan: planWords() }) : "");
    text("outlook-line", outlook ? inUnits(twinWords(outlook.says)) : "");
    showWhatIf();
  }
  function text(id, words) { var e = document.getElementById(id); if (e && e.textContent !== words) e.textContent = words; }
  function showWhatIf() {
    roastops.whatIf.show(machineId, outlook && outlook.orders);
    var first = document.querySelector("[data-what-if]"), curve = roastops.live.curve();
    if (curve) curve.setWhatIf(first && outlook && outlook.orders ? outlook.orders[first.dataset.whatIf] || null : null);
  }

  // --- the last 90 seconds -----------------------------------------------------------------------
  function markAt(kind) {
    var roast = roastops.live.roast(), mark = roast && roast.marks.find(function (m) { return m.kind === kind; });
    return mark ? mark.elapsed_ms : null;
  }
  function dropsAt() {
    var plan = outlook && outlook.plan, crack = markAt("first_crack_start"), found = [];
    if (plan && plan.development_s !== null && crack !== null) found.push(crack / 1000 + plan.development_s);
    if (outlook && outlook.by_temperature && outlook.by_temperature.elapsed_s !== null) found.push(outlook.by_temperature.elapsed_s);
    return found.length ? Math.min.apply(null, found) : null;
  }
  function tick() {
    if (!box) return;
    var roast = roastops.live.roast(), elapsedMs = roastops.live.elapsedMs();
    var dropped = markAt("drop"), crack = markAt("first_crack_start");
    var isOpen = !!roast && roast.is_open && elapsedMs !== null;
    var at = dropsAt(), left = at === null || !isOpen ? null : at - elapsedMs / 1000;
    var isEnding = isOpen && (dropped !== null ? elapsedMs - dropped < BEANS_S * 1000 : left === null ? crack !== null : left <= ENDING_S);
    if (roast && box.dataset.roastId !== roast.roast_id) { box.dataset.roastId = roast.roast_id; isLeft = false; box.dataset.out = ""; }
    if (box.dataset.out === "yes") isEnding = false;
    box.hidden = !isEnding || isLeft;
    document.body.classList.toggle("is-ending", !box.hidden);
    var again = document.getElementById("ending-again");
    if (again) again.hidden = !(isEnding && isLeft);
    if (isEnding && !wasEnding && !isLeft) roastops.say(t("The last seconds before the drop."));
    wasEnding = isEnding;
    if (box.hidden) return;
    var end = dropped === null ? elapsedMs : dropped, development = crack === null ? null : end - crack;
    put("development", development === null ? "–" : roastops.mmss(development));
    put("ratio", development === null || end <= 0 ? "–" : (100 * development / end).toFixed(1) + " %");
    var plan = outlook && outlook.plan;
    put("by-time-plan", plan && plan.development_s !== null ? t("after {time} of development", { time: roastops.mmss(plan.development_s * 1000) }) : t("no plan"));
    put("by-temperature-plan", plan && plan.drop_temp_c !== null ? t("at {temperature}", { temperature: degrees(plan.drop_temp_c) }) : t("no plan"));
    put("by-time", dropped !== null ? t("dropped") : plan && plan.development_s !== null && crack !== null ? seconds((crack / 1000 + plan.development_s) - elapsedMs / 1000) : "–");
    var byTemperature = outlook && outlook.by_temperature;
    put("by-temperature", dropped !== null ? t("dropped") : byTemperature && byTemperature.elapsed_s !== null ? seconds(byTemperature.elapsed_s - elapsedMs / 1000) : "–");
    ["heater", "fan"].forEach(function (name) {
      var next = outlook && outlook.next && outlook.next[name];
      put("next-" + name, next ? t("→ {step} in {time}", { step: next.step, time: seconds(next.elapsed_s - elapsedMs / 1000) }) : t("nothing planned"));
    });
    put("crack", crack === null ? t("First crack is not marked.") : t("First crack at {time}.", { time: roastops.mmss(crack) }));
    var person = roast.marks.find(function (m) { return m.kind === "first_crack_start" && m.source === "person"; });
    box.querySelectorAll("[data-ending-back]").forEach(function (b) { b.disabled = !person; });
    document.getElementById("ending-out").hidden = dropped === null;
    showAsk(left, dropped !== null);
  }
  /** The tick that a grave order's card asks for, once more: the card itself is hidden meanwhile. */
  function tickOf(held) {
    var asked = held.querySelector('[data-approve] input[type="checkbox"][required]');
    if (!asked) return null;
    var label = document.createElement("label"), box = Object.assign(document.createElement("input"), { type: "checkbox" });
    var words = asked.closest("label").textContent.trim();
    label.className = "check";
    label.append(box, " " + words);
    return { label: label, box: box, words: words };
  }
  /** At most one order, the one that ends first; none in the last 20 seconds. Rebuilt only when it changes. */
  function showAsk(left, isDropped) {
    var ask = document.getElementById("ending-ask"), held = document.querySelector("[data-held]");
    var isQuiet = isDropped || (left !== null && left < QUIET_S);
    var shown = held && !isQuiet ? held.dataset.held : "";
    var waiting = document.querySelectorAll("[data-held]").length;
    var words = shown ? "" : isDropped ? t("Dropped.") : isQuiet ? (waiting ? t("Orders wait until after the drop.") : t("No orders in the last {seconds} seconds.", { seconds: QUIET_S })) : t("No order waits.");
    if (ask.dataset.shown === shown && ask.dataset.words === words) return;
    ask.dataset.shown = shown;
    ask.dataset.words = words;
    ask.textContent = "";
    if (!shown) { ask.append(Object.assign(document.createElement("p"), { className: "quiet", textContent: words })); return; }
    var title = document.createElement("p"), strong = document.createElement("strong");
    strong.textContent = held.dataset.title;
    title.append(strong, " " + t("from {name}", { name: held.dataset.proposer }));
    var why = document.createElement("p");
    why.className = "quiet";
    why.textContent = (held.querySelector(".reasoning") || {}).textContent || "";
    ask.append(title, why);
    if (!mayOperate) return;
    var decide = document.createElement("div"), read = tickOf(held);
    decide.className = "decide";
    if (read) ask.append(read.label);
    [[t("Veto"), "primary", "#veto-" + shown], [t("Approve"), held.dataset.kind === "veto" ? "" : "primary", "#approve-" + shown], [t("Reject"), "", "#reject-" + shown + "-WRONG_TIMING"]].forEach(function (choice) {
      var target = held.querySelector(choice[2]), isApproval = choice[2].indexOf("#approve-") === 0;
      if (!target) return;
      var button = Object.assign(document.createElement("button"), { type: "button", className: "button " + choice[1], textContent: choice[0] });
      button.addEventListener("click", function () {
        var now = document.querySelector(choice[2]);  // the card may have been drawn anew since
        if (!now || now.disabled) return;
        if (isApproval && read) {
          if (!read.box.checked) { read.box.focus(); return roastops.notice(t("Needed first: {what}", { what: read.words }), true); }
          now.form.querySelector('input[type="checkbox"]').checked = true;
        }
        now.click();
      });
      decide.append(button);
    });
    ask.append(decide);
  }

  // --- acts --------------------------------------------------------------------------------------
  document.addEventListener("click", function (click) {
    var button = click.target.closest("button");
    if (!button) return;
    if (button.id === "ending-leave") { isLeft = true; tick(); }
    if (button.id === "ending-again") { isLeft = false; tick(); }
    if (button.dataset.endingBack) {
      var back = document.querySelector('#roast [data-mark-kind="first_crack_start"][data-back="' + button.dataset.endingBack + '"]');
      if (back) back.click();
    }
    if (button.id === "beans-out") beansOut(button);
  });
  function beansOut(button) {
    var roast = roastops.live.roast(), elapsedMs = roastops.live.elapsedMs();
    if (!roast || elapsedMs === null) return;
    button.disabled = true;
    roastops.post("/v1/roasts/" + encodeURIComponent(roast.roast_id) + "/events", { action: "mark", kind: "note", elapsed_ms: Math.round(elapsedMs), text: "Beans out: seen at the machine." }).then(function () {
      box.dataset.out = "yes";
      roastops.notice(t("Noted: the beans are out."));
      roastops.refresh("roast_event");
      button.disabled = false;
      tick();
    }, function (error) { button.disabled = false; roastops.notice(error.message, true); });
  }
  roastops.keys["w"] = function () { if (wasEnding) { isLeft = !isLeft; tick(); } };

  // --- the plan for the end ----------------------------------------------------------------------
  document.addEventListener("submit", function (event) {
    if (event.target.id !== "plan-form") return;
    event.preventDefault();
    var roast = roastops.live.roast(), form = event.target;
    if (!roast) return;
    var temperature = form.elements.drop_temp.value.trim(), minutes = form.elements.development.value.trim();
    var body = { drop_temp_c: null, development_s: null };
    if (temperature !== "") body.drop_temp_c = roastops.isFahrenheit ? (Number(temperature) - 32) / 1.8 : Number(temperature);
    if (minutes !== "") {
      var parts = minutes.split(":");
      body.development_s = parts.length === 2 ? Number(parts[0]) * 60 + Number(parts[1]) : Number(minutes);
    }
    if (isNaN(body.drop_temp_c) || isNaN(body.development_s)) return roastops.notice(t("Write the temperature as a number and the time as m:ss."), true);
    roastops.post("/v1/roasts/" + encodeURIComponent(roast.roast_id) + "/plan", body).then(function () {
      roastops.notice(t("Planned."));
      ask();
    }, function (error) { roastops.notice(error.message, true); });
  });

  roastops.refreshListeners.push(function (target) {
    if (target.id === "queue") { showWhatIf(); ask(); }
    if (target.id === "roast") { askGolden(); ask(); }
  });
  document.addEventListener("DOMContentLoaded", function () { askGolden(); ask(); });
  setInterval(ask, EVERY_MS);
  setInterval(askGolden, EVERY_MS);
  setInterval(tick, TICK_MS);
})();

// STOP. Depends on nothing else on the page: not on htmx, the stream, the chart or the session.
// One press, no dialog. It never says "stopped" unless the server says what was proved.
(function () {
  "use strict";
  var HOLD_ESCAPE_MS = 700;
  var SLOW_MS = 1500;        // then we say that we wait
  var GIVE_UP_MS = 6000;     // per attempt; proof takes up to 2 s
  var ATTEMPTS = 3;          // of answers that are none; making safe may be repeated: it only goes down
  var KEEP_ON_MS = 60000, AGAIN_MS = 1000;  // while nobody answers at all
  var REFRESH_TOKENS_MS = 4 * 60 * 1000;  // a token lives 15 minutes
  var table = {};
  try { table = JSON.parse(document.body.dataset.words || "{}") || {}; } catch (e) { table = {}; }
  /** The words in the page's language; where its table (commands/console/script_words.py) lacks them, the English ones. */
  function t(text, values) {
    var words = (table[text] || text);
    return words.replace(/\{(\w+)\}/g, function (gap, name) { return values && name in values ? values[name] : gap; });
  }
  var NOT_CONFIRMED = t("STOP not confirmed: use the panel or the mains.");

  var page = document.getElementById("console");
  if (!page) return;
  var tokens = {};
  try { tokens = JSON.parse(page.dataset.stopTokens || "{}"); } catch (e) { tokens = {}; }

  function csrf() {
    var meta = document.querySelector('meta[name="csrf"]');
    return meta ? meta.content : "";
  }

  function refreshTokens() {
    fetch(page.dataset.stopTokensUrl, { headers: { "X-Console-Fetch": "1" }, cache: "no-store" })
      .then(function (answer) { return answer.ok ? answer.json() : null; })
      .then(function (body) {
        if (!body) return;
        tokens = body.tokens;
        document.dispatchEvent(new CustomEvent("roastops:server-time", { detail: body.server_now }));
      })
      .catch(function () { /* the old token still holds for minutes; STOP itself says when it fails */ });
  }
  if (page.dataset.stopTokensUrl) {
    setInterval(refreshTokens, REFRESH_TOKENS_MS);
    document.addEventListener("visibilitychange", function () { if (!document.hidden) refreshTokens(); });
    if (!page.dataset.stopTokens) refreshTokens();
  }

  function loud(text) {
    var box = document.getElementById("loud");
    box.textContent = "";
    if (!text) return;
    var words = document.createElement("span");
    words.textContent = text;
    var close = document.createElement("button");
    close.type = "button";
    close.textContent = t("I have read this");
    close.addEventListener("click", function () { box.textContent = ""; });
    box.append(words, close);
  }

  function show(machineId, text, tone) {
    document.querySelectorAll('[data-stop-result="' + machineId + '"]').forEach(function (line) {
      line.hidden = !text;
      line.textContent = text;
      line.dataset.tone = tone || "";
    });
  }

  function tell(machineId, name, body) {
    if (body.result === "heat_off") {
      var isTimed = typeof body.proved_ms === "number";
      show(machineId, isTimed ? t("Heat off, proved in {ms} ms. Heat off is not cold.", { ms: Math.round(body.proved_ms) }) : t("Heat off, proved. Heat off is not cold."), "");
      loud("");
    } else if (body.result === "unproved") {
      show(machineId, t("NOT PROVED"), "danger");
      loud(name + ": " + t("STOP sent, heat off NOT PROVED.") + " " + (body.by_hand || []).map(function (line) { return t(line); }).join(" ") + " " + t("If in doubt: the panel or the mains."));
    } else {
      fail(machineId, name, t("the answer made no sense"));
    }
    document.dispatchEvent(new CustomEvent("roastops:stopped", { detail: body }));
  }

  function fail(machineId, name, why) {
    show(machineId, NOT_CONFIRMED, "danger");
    loud(name + ": " + NOT_CONFIRMED + " (" + why + ")");
  }

  function attempt(machineId, stopId) {
    var headers = { "Content-Type": "application/json", "X-CSRFToken": csrf(), "Accept": "application/json" };
    if (tokens[machineId]) headers["X-Stop-Token"] = tokens[machineId];
    var abort = new AbortController();
    var timer = setTimeout(function () { abort.abort(); }, GIVE_UP_MS);
    return fetch("/v1/machines/" + encodeURIComponent(machineId) + "/stop", {
      method: "POST", headers: headers, body: "{}", keepalive: true, cache: "no-store", signal: abort.signal
    }).then(function (answer) {
      return answer.json().catch(function () { return {}; }).then(function (body) {
        return { status: answer.status, body: body };
      });
    }).finally(function () { clearTimeout(timer); });
  }

  function stop(machineId, name) {
    var isSettled = false;
    show(machineId, t("STOP sent…"), "");
    var slow = setTimeout(function () {
      if (!isSettled) show(machineId, t("STOP sent; no proof yet. Be ready at the panel."), "danger");
    }, SLOW_MS);
    function settle() { isSettled = true; clearTimeout(slow); }
    var pressedMs = performance.now();
    function go(left) {
      attempt(machineId).then(function (answer) {
        if (answer.body && answer.body.result) { settle(); tell(machineId, name, answer.body); return; }
        var why = (answer.body && answer.body.message) || t("the server answered {status}", { status: answer.status });
        fail(machineId, name, why);  // loud at once, even while we try again
        if (answer.status >= 500 && left > 1) setTimeout(function () { go(left - 1); }, 300);
        else settle();
      }).catch(function () {
        var isKeptOn = performance.now() - pressedMs < KEEP_ON_MS;
        fail(machineId, name, t("the server did not answer") + (isKeptOn ? "; " + t("still trying") : ""));
        if (isKeptOn) setTimeout(function () { go(left); }, AGAIN_MS);
        else settle();
      });
    }
    go(ATTEMPTS);
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest && event.target.closest("[data-stop]");
    if (button) stop(button.dataset.stop, button.dataset.name || t("Machine"));
  });

  // Keys: only where one machine is meant.
  var machineId = page.dataset.machine;
  if (!machineId || !document.getElementById("stop")) return;
  function isTyping(target) {
    return !!target.closest && !!target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
  }
  function keysAreOn() {
    try { return localStorage.getItem("roastops.keys") !== "off"; } catch (e) { return true; }
  }
  var escapeTimer = null;
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape" && !event.repeat && escapeTimer === null) {
      escapeTimer = setTimeout(function () { stop(machineId, page.dataset.name); }, HOLD_ESCAPE_MS);
    }
    var isShiftS = event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey && event.code === "KeyS";
    if (isShiftS && !event.repeat && !isTyping(event.target) && keysAreOn()) {
      event.preventDefault();
      stop(machineId, page.dataset.name);
    }
  }, true);
  function letGo() { clearTimeout(escapeTimer); escapeTimer = null; }
  document.addEventListener("keyup", function (event) { if (event.key === "Escape") letGo(); }, true);
  window.addEventListener("blur", letGo);
})();

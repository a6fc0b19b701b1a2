// What every page shares: the server's time, words for people, calls to the API, the one live stream,
// countdowns and ages, keys. Pages add listeners to `roastops`; panels are refreshed by htmx.
(function () {
  "use strict";
  var page = document.getElementById("console");
  var roastops = (window.roastops = { latest: {}, readingListeners: [], refreshListeners: [], keys: {} });
  var table = {};
  try { table = JSON.parse(document.body.dataset.words || "{}") || {}; } catch (e) { table = {}; }
  /** The words in the page's language; where its table (commands/console/script_words.py) lacks them, the English ones. */
  function t(text, values) {
    var words = (table[text] || text);
    return words.replace(/\{(\w+)\}/g, function (gap, name) { return values && name in values ? values[name] : gap; });
  }
  roastops.t = t;
  if (!page) return;

  /** A colour of the house as the theme has it now, for what draws on a canvas, which knows no variables. */
  roastops.colour = function (name) {
    var probe = document.createElement("i");
    probe.style.color = "var(--" + name + ")";
    document.body.appendChild(probe);
    var value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };
  /** The figures of a chart's axis: with a point in every language, as everywhere in the house. */
  roastops.axisFigures = function (u, splits) { return splits.map(function (v) { return String(+v.toFixed(6)); }); };

  // --- the server's time, on this page's monotonic clock -----------------------------------------
  var timing = performance.getEntriesByType("navigation")[0];
  var serverAt = Date.parse(document.body.dataset.serverNow) || Date.now();
  var pageAt = timing && timing.responseStart ? timing.responseStart : 0;
  roastops.now = function () { return serverAt + (performance.now() - pageAt); };
  function learnTime(iso) {
    var at = Date.parse(iso);
    if (at) { serverAt = at; pageAt = performance.now(); }
  }
  document.addEventListener("roastops:server-time", function (event) { learnTime(event.detail); });

  // --- words -------------------------------------------------------------------------------------
  roastops.mmss = function (ms) {
    if (ms === null || ms === undefined || isNaN(ms)) return "–";
    var s = Math.max(0, Math.floor(ms / 1000));
    return Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0");
  };
  // Figures arrive in °C and °C/min and are shown as the person reads them. A rate has no offset.
  var isFahrenheit = document.body.dataset.temperatureUnit === "F";
  roastops.degree = isFahrenheit ? "°F" : "°C";
  roastops.isFahrenheit = isFahrenheit;
  /** A reading's value as shown: by its name a temperature (`_temp_c`), a rate (`_c_per_min`) or something else. */
  roastops.shown = function (name, value) {
    if (!isFahrenheit || value === null || value === undefined) return value;
    if (/_c_per_min$/.test(name)) return value * 1.8;
    return /_temp_c$/.test(name) ? value * 1.8 + 32 : value;
  };
  roastops.say = function (text) {
    var box = document.getElementById("say");
    box.textContent = "";
    setTimeout(function () { box.textContent = text; }, 60);
  };
  roastops.shout = function (text) {
    var box = document.getElementById("shout") || document.body.appendChild(Object.assign(document.createElement("div"), { id: "shout", className: "unseen" }));
    box.setAttribute("aria-live", "assertive");
    box.textContent = "";
    setTimeout(function () { box.textContent = text; }, 60);
  };
  roastops.notice = function (text, isRefused) {
    var box = document.getElementById("notices");
    var note = document.createElement("div");
    note.className = "notice" + (isRefused ? " notice-refused" : "");
    var words = document.createElement("span");
    words.textContent = text;
    var close = document.createElement("button");
    close.type = "button";
    close.setAttribute("aria-label", t("Close this message"));
    close.textContent = "✕";
    close.addEventListener("click", function () { note.remove(); });
    note.append(words, close);
    var told = box.querySelectorAll(".notice:not(.notice-unsent)");
    for (var i = 0; i + 2 < told.length; i++) told[i].remove();
    box.append(note);
    setTimeout(function () { note.remove(); }, isRefused ? 20000 : 6000);
    return note;
  };
  roastops.state = function (name, word) {
    var box = document.getElementById("stream-state");
    if (!box) return;
    box.dataset.state = name;
    box.querySelector("[data-word]").textContent = word;
  };

  // --- calls -------------------------------------------------------------------------------------
  function newKey() {
    var bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, function (b) { return b.toString(16).padStart(2, "0"); }).join("");
  }
  var WORDS_WAIT_MS = 1500, ONE_TRY_MS = 8000, AGAIN_MS = 1500, GIVE_UP_AFTER_MS = 60000;
  /** One POST. Where no answer comes it is sent again under the same key until one does: nothing is lost, nothing
      done twice. `options`: label (what was pressed), isWanted (asked before each further try). */
  roastops.post = function (path, body, options) {
    options = options || {};
    var headers = {
      "Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": newKey(),
      "Accept-Language": document.documentElement.lang, "X-CSRFToken": document.querySelector('meta[name="csrf"]').content
    };
    if (options.ifMatch) headers["If-Match"] = options.ifMatch;  // only as long as it stands as this page showed it
    var text = JSON.stringify(body || {}), begunMs = performance.now(), note = null, isForgotten = false;
    function settled(answer) { if (note) note.remove(); note = null; return answer; }
    function unanswered() {
      var isOver = performance.now() - begunMs > GIVE_UP_AFTER_MS, isWanted = !options.isWanted || options.isWanted();
      if (isForgotten || isOver || !isWanted) {
        settled();
        throw new Error(!isWanted ? t("Not sent again: the machine stands otherwise than when you pressed. Look at the orders.")
          : t("The server did not answer. It is not known whether this arrived: look at the orders when it is back."));
      }
      if (!note) note = unsent(options.label || "", function () { isForgotten = true; });
      return new Promise(function (resolve) { setTimeout(resolve, AGAIN_MS); }).then(attempt);
    }
    function attempt() {
      if (isForgotten) return unanswered();
      var abort = new AbortController(), timer = setTimeout(function () { abort.abort(); }, ONE_TRY_MS);
      return fetch(path, { method: "POST", headers: headers, body: text, cache: "no-store", signal: abort.signal })
        .then(function (answer) {
          return answer.json().catch(function () { return {}; }).then(function (json) { return { answer: answer, json: json }; });
        }).then(function (got) { clearTimeout(timer); return got; }, function () { clearTimeout(timer); return null; })
        .then(function (got) {
          if (got === null || got.json.error === "in_progress" || (got.answer.status >= 502 && !got.json.error)) return unanswered();
          return settled(read(got.answer, got.json));
        });
    }
    return attempt().catch(function (error) { settled(); throw error; }).then(inOurWords, function (error) {
      if (!error.said) throw error;
      return roastops.worded(error.said).then(function (said) { error.message = said.join(" ").trim(); throw error; });
    });
  };
  /** What the API says in English, in the page's language: asked of the server, and as it stands where that is silent. */
  roastops.worded = function (texts, orderId) {
    if (document.documentElement.lang === "en" || !(texts.length || orderId)) return Promise.resolve(texts);
    var query = texts.map(function (text) { return "t=" + encodeURIComponent(text); });
    if (orderId) query.push("order=" + encodeURIComponent(orderId));
    var abort = new AbortController(), timer = setTimeout(function () { abort.abort(); }, WORDS_WAIT_MS);
    return fetch("/words/?" + query.join("&"), { headers: { "X-Console-Fetch": "1" }, cache: "no-store", signal: abort.signal })
      .then(function (answer) { return answer.ok ? answer.json() : { texts: texts }; })
      .then(function (found) { return found.texts; }, function () { return texts; })
      .finally(function () { clearTimeout(timer); });
  };
  /** An order that came back refused, with its reasons in the page's language. */
  function inOurWords(answer) {
    if (!answer || answer.status !== "REJECTED" || !answer.proposal_id) return answer;
    return roastops.worded([], answer.proposal_id).then(function (said) { if (said.length) answer.said = said; return answer; });
  }
  function read(answer, json) {
    if (answer.ok) return json;
    var words = [json.message || t("The server answered {status}.", { status: answer.status }), json.how_to_fix || ""].join(" ").trim();
    var error = new Error(words);
    error.status = answer.status;
    error.code = json.error;
    error.said = json.message ? [json.message, json.how_to_fix || ""] : null;
    throw error;
  }
  /** What stands on a button, without its key. */
  function wordOf(button) {
    return button ? Array.from(button.childNodes).filter(function (n) { return n.nodeName !== "KBD"; }).map(function (n) { return n.textContent; }).join("").trim() : "";
  }
  /** A press that has no answer yet stays on the page until it has one. */
  function unsent(label, forget) {
    var note = document.createElement("div"), words = document.createElement("span"), button = document.createElement("button");
    note.className = "notice notice-unsent";
    words.textContent = (label ? label + ": " : "") + t("no answer yet. It is sent again until there is one; it counts once.");
    button.type = "button";
    button.textContent = t("Forget it");
    button.addEventListener("click", function () { forget(); note.remove(); });
    note.append(words, button);
    document.getElementById("notices").append(note);
    roastops.say(words.textContent);
    return note;
  }
  /** The words of a refusal that came as 201 REJECTED. */
  roastops.refusal = function (order) {
    if (!order || order.status !== "REJECTED") return "";
    if (order.said) return t("Refused:") + " " + order.said.join(" ");
    var reasons = ((order.verdict && order.verdict.reasons) || order.reasons || []).filter(function (r) { return !r.decision || r.decision === "REFUSE"; });
    return t("Refused:") + " " + reasons.map(function (r) { return [r.message || r.code, r.how_to_fix || ""].join(" ").trim(); }).join(" ");
  };
  roastops.refresh = function (kind) {
    document.body.dispatchEvent(new CustomEvent("ro:" + kind));
    document.body.dispatchEvent(new CustomEvent("ro:any"));
  };

  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (!form.dataset || !form.dataset.api) return;
    event.preventDefault();
    var body = {};
    new FormData(form, event.submitter || undefined).forEach(function (value, name) {
      var field = form.elements[name], kind = (field && field.dataset) || {};
      if (value === "" && !("null" in kind || "blank" in kind)) return;
      if ("null" in kind && value === "") value = null;
      else if (field && field.type === "number") value = Number(value);
      else if ("flag" in kind) value = value === "yes";
      else if ("days" in kind) { name = "expires_at"; value = new Date(roastops.now() + Number(value) * 86400000).toISOString(); }
      else if ("list" in kind) value = value.split(/[\s,]+/).filter(Boolean);
      if (field && field.multiple) (body[name] = body[name] || []).push(value);
      else body[name] = value;
    });
    if (form.dataset.within) {
      var inner = body, outer = {};
      if ("reason" in inner) { outer.reason = inner.reason; delete inner.reason; }
      outer[form.dataset.within] = inner;
      body = outer;
    }
    var buttons = form.querySelectorAll("button");
    buttons.forEach(function (b) { b.disabled = true; });
    var isCorrectable = false;
    var pressed = event.submitter || form.querySelector("button");
    roastops.post(form.dataset.api, body, { label: wordOf(pressed), ifMatch: form.dataset.ifMatch }).then(function (answer) {
      // Who turns an order down (reject, veto) is answered by that order, REJECTED as they asked: nobody refused them.
      var refusal = /\/(reject|veto)$/.test(form.dataset.api) ? "" : roastops.refusal(answer);
      if (refusal) roastops.notice(refusal, true);
      else if (form.dataset.approve && answer && answer.status === "PENDING_APPROVAL") roastops.notice(t("Your yes is noted. It needs another person's, too: nothing is sent yet."));
      else roastops.notice(form.dataset.done || t("Done."));
      if ("clear" in form.dataset) form.reset();
      if ("reload" in form.dataset) setTimeout(function () { location.reload(); }, 300);
    }, function (error) {
      roastops.notice(error.status === 412 ? t("Somebody changed this while you wrote: nothing of yours was set. Here it is as it stands now.") : error.message, true);
      isCorrectable = error.status === 400 || error.status === 422;  // keep what was typed
    }).finally(function () {
      buttons.forEach(function (b) { b.disabled = false; });
      if (isCorrectable) return;
      if (document.activeElement && form.contains(document.activeElement)) document.activeElement.blur();
      roastops.refresh(form.dataset.refresh || "all");
    });
  });

  // The browser's own bubble would lie over STOP on a phone: we say ourselves what is missing, and go there.
  document.addEventListener("invalid", function (event) {
    var field = event.target, form = field.form;
    if (!form || !(form.dataset.api || form.dataset.json)) return;
    event.preventDefault();
    if (form.querySelector(":invalid") !== field) return;
    var label = field.labels && field.labels[0];
    field.scrollIntoView({ block: "center" });
    field.focus({ preventScroll: true });
    var isEmpty = field.validity.valueMissing;
    var name = label ? label.textContent.trim() : field.name, words = isEmpty ? t("Needed first: {what}", { what: name }) : name + ": " + field.validationMessage;
    roastops.notice(words, true).dataset.needed = "yes";
  }, true);
  document.addEventListener("submit", function () {  // nothing is lacking any more
    document.querySelectorAll(".notice[data-needed]").forEach(function (note) { note.remove(); });
  }, true);

  // A panel is not swapped under the fingers of somebody typing in it or pressing a button; it catches up after.
  var waiting = new Set(), isPressing = false;
  function isBusy(panel) {
    if (isPressing) return true;
    var active = document.activeElement;
    if (!active || !panel.contains(active)) return false;
    return active.matches("input, select, textarea") || !!active.closest("details.reject[open]");
  }
  document.addEventListener("htmx:beforeSwap", function (event) {
    if (isBusy(event.detail.target)) { event.detail.shouldSwap = false; waiting.add(event.detail.target); }
  });
  function catchUp() {
    waiting.forEach(function (panel) {
      if (isBusy(panel)) return;
      waiting.delete(panel);
      window.htmx.ajax("GET", panel.getAttribute("hx-get"), { target: panel, swap: "innerHTML" });
    });
  }
  function pressing() { isPressing = true; }
  function pressed() { setTimeout(function () { isPressing = false; catchUp(); }, 80); }  // the click comes after the release
  document.addEventListener("pointerdown", pressing, true);
  document.addEventListener("pointerup", pressed, true);
  document.addEventListener("pointercancel", pressed, true);
  document.addEventListener("keydown", function (event) { if (event.key === " " || event.key === "Enter") pressing(); }, true);
  document.addEventListener("keyup", function (event) { if (event.key === " " || event.key === "Enter") pressed(); }, true);
  window.addEventListener("blur", pressed);
  document.addEventListener("focusout", function () { setTimeout(catchUp, 50); });
  document.addEventListener("htmx:beforeSwap", function (event) {
    var kept = Array.from(event.detail.target.querySelectorAll("details[id][data-by-hand]"), function (d) { return [d.id, d.open]; });
    event.detail.target.roastopsKept = kept;
  });
  // What a person opened or shut stays so; what the page opened by itself (the newest order) makes room for the next.
  document.addEventListener("click", function (event) {
    var summary = event.target.closest && event.target.closest("summary");
    if (summary && summary.parentElement.matches("details[id]")) summary.parentElement.dataset.byHand = "yes";
  });
  document.addEventListener("htmx:afterSwap", function (event) {
    var target = event.detail.target;
    (target.roastopsKept || []).forEach(function (kept) {
      var d = document.getElementById(kept[0]);
      if (d) { d.open = kept[1]; d.dataset.byHand = "yes"; }
    });
    dress(target);
    roastops.refreshListeners.forEach(function (listener) { listener(target); });
  });
  document.addEventListener("htmx:responseError", function (event) {
    if (event.detail.xhr.status === 401) {
      roastops.state("signed-out", t("Signed out"));
      if (!document.getElementById("signed-out")) {
        var note = document.createElement("div");
        note.id = "signed-out";
        note.className = "banner banner-warning";
        var link = document.createElement("a");
        link.href = "/sign-in/?next=" + encodeURIComponent(location.pathname);
        link.textContent = t("Sign in again");
        note.append(t("You are signed out; what you see is getting old. STOP still works for a few minutes."), " ", link);
        document.getElementById("main").prepend(note);
      }
    }
  });

  // --- local times, countdowns, ages, title ------------------------------------------------------
  /** In the person's own zone where they chose one (and this browser knows it), else the device's. */
  function timeFormat(options) {
    var zone = document.body.dataset.timeZone, language = document.documentElement.lang;
    var locales = language === "en" ? [] : [language];  // English: as the browser writes it, British or American
    if (zone) try { return new Intl.DateTimeFormat(locales, Object.assign({ timeZone: zone }, options)); } catch (e) { return null; }
    return new Intl.DateTimeFormat(locales, options);
  }
  var clockFormat = timeFormat({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  var dateFormat = timeFormat({ dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });
  function dress(root) {
    root.querySelectorAll("time[datetime]").forEach(function (time) {
      var at = new Date(time.dateTime);
      if (isNaN(at)) return;
      time.title = at.toISOString();
      if (!clockFormat) return;  // a zone this browser lacks: the server's words stand, with their zone
      if ("withDate" in time.dataset) time.textContent = dateFormat.format(at);
      else time.textContent = clockFormat.format(at) + ("precise" in time.dataset ? "." + String(at.getMilliseconds()).padStart(3, "0") : "");
    });
    root.querySelectorAll("[data-mmss]").forEach(function (mark) { mark.textContent = roastops.mmss(Number(mark.dataset.mmss)); });
    tick();
    title();
  }
  function title() {
    var count = 0;
    document.querySelectorAll("[data-held-count]").forEach(function (held) { count += Number(held.dataset.heldCount); });
    document.title = (count ? "(" + count + ") " : "") + page.dataset.title;
  }
  function tickCountdown(box, holder) {
    var left = Date.parse(holder.dataset.expiresAt) - roastops.now();
    box.textContent = left > 0 ? roastops.mmss(left + 999) : holder.dataset.kind === "veto" ? t("now") : t("expired");
    box.dataset.ends = left < 10000 ? "soon" : "";
    if (left <= 0 && !holder.dataset.isExpired) {
      holder.dataset.isExpired = "yes";
      holder.querySelectorAll("button").forEach(function (b) { b.disabled = true; });
      roastops.refresh("expired");
    }
  }
  /** Age of the newest reading of a machine in seconds, or null when there never was one. */
  roastops.age = function (machineId, holder) {
    var reading = roastops.latest[machineId];
    var at = Date.parse(reading && reading.at ? reading.at : holder.dataset.at);
    if (!at) return null;
    if (at > roastops.now()) { serverAt += at - roastops.now(); }  // this device slept: its clock is behind
    return (roastops.now() - at) / 1000;
  };
  /** A source slower than ours is fresh for 2.5 of its own intervals (drivers/port.py, longest_age_s). */
  function longestAge(bound, machineId, holder) {
    var reading = roastops.latest[machineId], interval = Number((reading && reading.interval_s) || holder.dataset.intervalS) || 0;
    return Math.max(bound, 2.5 * Math.min(interval, 10));
  }
  function showAge(holder, machineId) {
    var age = roastops.age(machineId, holder);
    var state = age === null ? "none" : age > longestAge(3, machineId, holder) ? "very-old" : age > longestAge(1, machineId, holder) ? "old" : "fresh";
    var words = age === null ? t("No data yet") : state === "fresh" ? t("data {age} s old", { age: age.toFixed(1) })
      : t("DATA IS OLD:") + " " + (age < 60 ? age.toFixed(age < 10 ? 1 : 0) + " s" : age < 5400 ? Math.round(age / 60) + " min" : Math.round(age / 3600) + " h") + (state === "very-old" ? ". " + t("Do not trust these figures.") : "");
    holder.querySelectorAll("[data-age]").forEach(function (line) { line.textContent = words; line.dataset.ageState = state; });
    holder.querySelectorAll("[data-ages]").forEach(function (figures) { figures.dataset.ageState = state; });
  }
  function tick() {
    document.querySelectorAll("[data-held]").forEach(function (held) { tickCountdown(held.querySelector("[data-countdown]"), held); });
    document.querySelectorAll(".held-line .countdown").forEach(function (box) { tickCountdown(box, box); });
    if (page.dataset.machine) showAge(page, page.dataset.machine);
    else document.querySelectorAll("[data-machine]").forEach(function (card) { showAge(card, card.dataset.machine); });
  }
  setInterval(tick, 250);

  // --- held orders: say what came, and what may be approved by key --------------------------------
  var seen = new Map();
  function watchQueue() {
    var now = performance.now();
    var present = new Set();
    document.querySelectorAll("[data-held]").forEach(function (held) {
      present.add(held.dataset.held);
      if (seen.has(held.dataset.held)) return;
      seen.set(held.dataset.held, now);
      var said = { title: held.dataset.title, name: held.dataset.proposer };
      if (now > 3000) roastops.say(held.dataset.kind === "veto" ? t("Runs by itself unless vetoed: {title}, from {name}.", said) : t("New order waiting: {title}, from {name}.", said));
    });
    Array.from(seen.keys()).forEach(function (id) { if (!present.has(id)) seen.delete(id); });
  }
  roastops.refreshListeners.push(watchQueue);
  var saidHalts = new Set();
  function watchHalts(isFirst) {
    document.querySelectorAll("[data-halt]").forEach(function (halt) {
      var key = halt.dataset.halt + halt.dataset.said;
      if (saidHalts.has(key)) return;
      saidHalts.add(key);
      if (isFirst !== true) roastops.shout(halt.dataset.said);
    });
  }
  roastops.refreshListeners.push(watchHalts);

  // --- readings into the page --------------------------------------------------------------------
  var STATE_WORDS = { off: t("Off"), preheating: t("Preheating"), stabilising: t("Stabilising"), charge: t("Ready for beans"), roasting: t("Roasting"), cooling: t("Cooling"), shutdown: t("Shutting down"), unknown: t("State unknown") };
  roastops.show = function (root, reading) {
    root.querySelectorAll("[data-reading]").forEach(function (box) {
      var value = roastops.shown(box.dataset.reading, reading[box.dataset.reading]);
      var text = value === null || value === undefined ? "–" : box.dataset.digits ? Number(value).toFixed(Number(box.dataset.digits)) : String(value);
      if (box.textContent !== text) box.textContent = text;
    });
    root.querySelectorAll('[data-show="state_word"]').forEach(function (box) {
      var word = STATE_WORDS[reading.state] || reading.state;
      if (box.textContent !== word) box.textContent = word;
    });
  };

  // --- the one stream ----------------------------------------------------------------------------
  var source = null, lastEventId = "", retryMs = 1000, lostAt = null, LOST_AFTER_MS = 2500, wasLost = false;
  // What stands under the header moves the page when it comes and goes. A press that was aimed before is not taken for one
  // at what has just moved there; STOP does not move, and is taken always.
  var aloft = document.getElementById("aloft"), aloftPx = 0, shifting = null, SHIFTING_MS = 600;
  new ResizeObserver(function () {
    if (aloft.offsetHeight === aloftPx) return;
    aloftPx = aloft.offsetHeight;
    document.documentElement.style.setProperty("--aloft", aloftPx + "px");
    document.body.classList.add("is-shifting");
    clearTimeout(shifting);
    shifting = setTimeout(function () { document.body.classList.remove("is-shifting"); }, SHIFTING_MS);
  }).observe(aloft);
  /** Cut off: what is not known from here on, until it is over. */
  function showLost() {
    var isLost = lostAt !== null && performance.now() - lostAt > LOST_AFTER_MS, box = document.getElementById("lost");
    if (isLost !== wasLost) {
      wasLost = isLost;
      box.hidden = !isLost;
      if (isLost) roastops.shout(t("No connection.") + " " + t("Not known since then: readings, new orders, halts."));
      else roastops.say(t("The connection is back. The page is up to date."));
    }
    if (isLost) box.querySelector("[data-lost-for]").textContent = Math.round((performance.now() - lostAt) / 1000) + " s";
  }
  setInterval(showLost, 500);
  // A cable that is cut says nothing: where the stream is silent for long, ask whether anybody is there.
  var hasReadings = /readings/.test(page.dataset.stream), heardMs = performance.now(), isAsking = false;
  var SILENT_MS = hasReadings ? 4000 : 15000, ASK_MS = 3000;
  function heard() { heardMs = performance.now(); }
  function lost() { if (lostAt === null) lostAt = performance.now(); }
  function askIfSilent() {
    if (isAsking || (lostAt === null && performance.now() - heardMs < SILENT_MS)) return;
    isAsking = true;
    var abort = new AbortController(), timer = setTimeout(function () { abort.abort(); }, ASK_MS);
    fetch("/livez", { cache: "no-store", signal: abort.signal }).then(function () {
      heard();
      if (lostAt !== null) connect();  // its opening tells what was decided meanwhile, and clears the banner
    }, lost).finally(function () { clearTimeout(timer); isAsking = false; });
  }
  setInterval(askIfSilent, 1500);
  window.addEventListener("offline", lost);
  window.addEventListener("online", askIfSilent);
  function connect() {
    if (source) source.close();
    var url = page.dataset.stream + (lastEventId ? "&last_event_id=" + encodeURIComponent(lastEventId) : "");
    source = new EventSource(url);
    source.addEventListener("open", function () {
      retryMs = 1000;
      lostAt = null;
      heard();
      roastops.state("live", t("Live"));
      roastops.refresh("all");  // whatever was decided before this moment
    });
    source.addEventListener("hello", function (event) { if (event.lastEventId) lastEventId = event.lastEventId; });
    source.addEventListener("reset", function () { roastops.refresh("all"); });
    source.addEventListener("reading", function (event) {
      heard();
      var reading = JSON.parse(event.data);
      if (reading.machine_id === undefined && !page.dataset.machine) return;
      var machineId = reading.machine_id || page.dataset.machine;
      var before = roastops.latest[machineId];
      if (!reading.at && before) reading = Object.assign({}, before, reading);  // link lost: the old figures, getting older
      roastops.latest[machineId] = reading;
      if (before && (before.link !== reading.link || before.link_code !== reading.link_code || before.state !== reading.state || before.is_latched !== reading.is_latched)) roastops.refresh("machine");
      roastops.readingListeners.forEach(function (listener) { listener(machineId, reading); });
    });
    source.addEventListener("decision", function (event) {
      heard();
      if (event.lastEventId) lastEventId = event.lastEventId;
      var decision = JSON.parse(event.data);
      roastops.refresh(decision.kind);
    });
    source.addEventListener("error", function () {
      roastops.state("lost", t("Not live"));
      lost();
      if (source.readyState === EventSource.CLOSED) {  // the browser gave up (an error answer): try ourselves
        setTimeout(connect, retryMs);
        retryMs = Math.min(retryMs * 2, 10000);
      }
    });
  }
  window.addEventListener("pagehide", function () { if (source) source.close(); });
  window.addEventListener("pageshow", function (event) { if (event.persisted) connect(); });

  // --- keys, help, colours -----------------------------------------------------------------------
  var keysBox = document.getElementById("keys-on");
  function store(name, value) { try { localStorage.setItem(name, value); } catch (e) { /* private mode */ } }
  function recall(name) { try { return localStorage.getItem(name) || ""; } catch (e) { return ""; } }
  if (keysBox) {
    keysBox.checked = recall("roastops.keys") !== "off";
    keysBox.addEventListener("change", function () { store("roastops.keys", keysBox.checked ? "on" : "off"); });
  }
  var help = document.getElementById("help"), helpButton = document.getElementById("help-open");
  // A dialog stands on the page and shuts nothing out: STOP, orders and messages can be pressed and read beside it.
  roastops.openDialog = function (dialog) { if (dialog && !dialog.open) dialog.show(); };
  document.addEventListener("keydown", function (event) {
    var dialog = event.key === "Escape" && document.querySelector("dialog[open]");
    if (dialog) dialog.close();
  });
  function openHelp() { roastops.openDialog(help); }
  if (helpButton) helpButton.addEventListener("click", openHelp);
  var APPROVE_AFTER_MS = 800;  // a key pressed for the order before must not approve the one that just appeared
  // A key decides only on what can be read: the last seconds hide the queue, and show one order of it or none.
  function isOnShow(element) { return !!element && element.getClientRects().length > 0; }
  function isAsked(held) {
    var ask = document.getElementById("ending-ask");
    return isOnShow(held) || (isOnShow(ask) && ask.dataset.shown === held.dataset.held);
  }
  roastops.keys["a"] = function () {
    var held = document.querySelector("[data-held]");
    var form = held && isAsked(held) && held.querySelector("form[data-approve]");
    if (!form) return roastops.say(t("No order to approve."));
    if (performance.now() - (seen.get(held.dataset.held) || 0) < APPROVE_AFTER_MS) return roastops.notice(t("This order has only just appeared. Read it, then press A again."), true);
    var button = form.querySelector("button");
    if (!button.disabled) form.requestSubmit(button);
  };
  function first(selector, none, isSafe) {
    return function () {
      var button = document.querySelector(selector);
      if (!button || !(isSafe || isOnShow(button))) return roastops.say(none);
      if (button.disabled) return;
      if (button.form) button.form.requestSubmit(button); else button.click();
    };
  }
  roastops.keys["v"] = first("[data-veto] button", t("No order to veto."), true);
  roastops.keys["y"] = first("form button[id^=review-good-]", t("No order to review."));
  roastops.keys["x"] = first("#abort-order", t("Nothing to call off here."), true);
  roastops.keys["b"] = first("#rollback-order", t("Nothing to take back here."));
  roastops.keys["c"] = first("[data-abort-plan]", t("No plan to call off."), true);
  roastops.keys["t"] = first("[data-compensate-plan]", t("No plan to take back."));
  roastops.keys["n"] = function () {
    var more = document.getElementById("news-show"), details = document.querySelector("details[id^=review-bad-]");
    if (more && !more.hidden) return more.click();
    if (!details) return;
    if (!isOnShow(details)) return roastops.say(t("No order to review."));
    details.open = true;
    details.dataset.byHand = "yes";
    details.querySelector("input:not([type=hidden])").focus();
  };
  roastops.keys["r"] = function () {
    var details = document.querySelector("[data-held] details.reject");
    var inEnding = document.querySelector("#ending-ask .decide button:last-of-type");  // its Reject: Enter presses it
    if (!isOnShow(details)) return isOnShow(inEnding) ? inEnding.focus() : roastops.say(t("No order to reject."));
    details.open = true;
    details.dataset.byHand = "yes";
    details.querySelector(".reasons button").focus();
  };
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (keysBox && !keysBox.checked) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog")) return;
    var rejecting = event.target.closest("details.reject[open]");
    if (rejecting && /^[1-7]$/.test(event.key)) {
      event.preventDefault();
      var choice = rejecting.querySelectorAll(".reasons button")[Number(event.key) - 1];
      return choice.form.requestSubmit(choice);
    }
    if (event.key === "?") { event.preventDefault(); return openHelp(); }
    if (event.shiftKey) return;
    var act = roastops.keys[event.key.toLowerCase()];
    if (act) { event.preventDefault(); act(); }
  });
  var themes = ["", "light", "dark"], themeWords = { "": t("Colours: follow the system"), light: t("Colours: light"), dark: t("Colours: dark") };
  var themeButton = document.getElementById("theme-toggle");
  function showTheme(theme) {
    if (theme) document.documentElement.dataset.theme = theme; else delete document.documentElement.dataset.theme;
    if (themeButton) themeButton.setAttribute("aria-label", themeWords[theme]);
    if (themeButton) themeButton.title = themeWords[theme];
    document.dispatchEvent(new Event("roastops:theme"));
  }
  showTheme(recall("roastops.theme"));
  if (themeButton) themeButton.addEventListener("click", function () {
    var next = themes[(themes.indexOf(recall("roastops.theme")) + 1) % themes.length];
    store("roastops.theme", next);
    showTheme(next);
    roastops.say(themeWords[next]);
  });

  document.addEventListener("roastops:stopped", function () { roastops.refresh("halt"); });
  document.addEventListener("DOMContentLoaded", function () { dress(document); watchQueue(); watchHalts(true); connect(); });
})();

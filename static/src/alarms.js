// The alarms page: K acknowledges the first alarm nobody has seen, Z opens its shelf; shelving sends numbers.
(function () {
  "use strict";
  var roastops = window.roastops;
  if (!roastops || !roastops.keys) return;
  var t = roastops.t;

  function firstUnseen() {
    return document.querySelector('[data-alarm][data-state="unacknowledged"], [data-alarm][data-state="returned"]');
  }
  roastops.keys["k"] = function () {
    var alarm = firstUnseen();
    var button = alarm && alarm.querySelector('form[data-api$="/acknowledge"] button');
    if (!button) return roastops.say(t("No alarm to acknowledge."));
    if (!button.disabled) button.form.requestSubmit(button);
  };
  roastops.keys["z"] = function () {
    var alarm = firstUnseen() || document.querySelector("[data-alarm]");
    var shelf = alarm && alarm.querySelector("details.shelve");
    if (!shelf) return roastops.say(t("No alarm to shelve."));
    shelf.open = true;
    shelf.dataset.byHand = "yes";
    shelf.querySelector("select").focus();
  };
  // All of one machine, by name: what came after the page was read, or in the last moment before the press, stays unseen.
  var shownMs = {}, READ_AFTER_MS = 800, MAX_AT_ONCE = 100, UNSEEN = '[data-state="unacknowledged"], [data-state="returned"]';
  function noteShown() {
    document.querySelectorAll("[data-alarm]").forEach(function (alarm) {
      if (!(alarm.dataset.alarm in shownMs)) shownMs[alarm.dataset.alarm] = performance.now();
    });
  }
  roastops.refreshListeners.push(noteShown);
  noteShown();
  document.addEventListener("click", function (event) {
    var button = event.target.closest && event.target.closest("[data-ack-all]");
    if (!button) return;
    var all = Array.from(document.querySelectorAll('[data-alarm][data-of="' + button.dataset.ackAll + '"]')).filter(function (alarm) { return alarm.matches(UNSEEN); });
    var read = all.filter(function (alarm) { return performance.now() - shownMs[alarm.dataset.alarm] > READ_AFTER_MS; }).slice(0, MAX_AT_ONCE);
    if (!read.length) return roastops.notice(t("These have only just come. Read them, then press again."), true);
    button.disabled = true;
    var path = "/v1/machines/" + encodeURIComponent(button.dataset.ackAll) + "/alarms/acknowledge", left = all.length - read.length;
    roastops.post(path, { alarm_ids: read.map(function (alarm) { return alarm.dataset.alarm; }) }, { label: button.textContent }).then(function () {
      roastops.notice(t("{count} alarms acknowledged.", { count: read.length }) + (left ? " " + t("{count} came meanwhile: read them first.", { count: left }) : ""));
      button.blur();
      roastops.refresh("alarm");
    }, function (error) { roastops.notice(error.message, true); }).finally(function () { button.disabled = false; });
  });
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (!form.dataset || !form.dataset.shelve) return;
    event.preventDefault();
    var button = form.querySelector("button");
    button.disabled = true;
    var body = { minutes: Number(form.elements.minutes.value), reason: form.elements.reason.value };
    roastops.post(form.dataset.shelve, body).then(function () {
      roastops.notice(t("Shelved for {minutes} min.", { minutes: body.minutes }));
      if (document.activeElement && form.contains(document.activeElement)) document.activeElement.blur();
      roastops.refresh("alarm");
    }, function (error) { roastops.notice(error.message, true); }).finally(function () { button.disabled = false; });
  });
})();

// The first page: live figures on each machine's card, and what the twin expects of each order that waits.
(function () {
  "use strict";
  var EVERY_MS = 3000;
  var roastops = window.roastops;
  var shown = {};
  roastops.readingListeners.push(function (machineId, reading) {
    var now = performance.now();
    if (now - (shown[machineId] || 0) < 240) return;
    shown[machineId] = now;
    var card = document.querySelector('[data-machine="' + machineId + '"]');
    if (!card) return;
    roastops.show(card, reading);
    var elapsed = card.querySelector("[data-elapsed]");
    if (elapsed) elapsed.textContent = reading.elapsed_ms === undefined || reading.elapsed_ms === null ? "" : roastops.mmss(reading.elapsed_ms);
  });
  // --- what would happen: asked of the machines that have an order waiting; it may be missing, and nothing waits for it
  var outlooks = {}, asking = {};
  function showWhatIf() { Object.keys(outlooks).forEach(function (machineId) { roastops.whatIf.show(machineId, outlooks[machineId]); }); }
  function ask() {
    if (document.hidden) return;
    new Set(Array.from(document.querySelectorAll("[data-what-if-machine]"), function (line) { return line.dataset.whatIfMachine; })).forEach(function (machineId) {
      if (asking[machineId]) return;
      asking[machineId] = true;
      fetch("/v1/machines/" + encodeURIComponent(machineId) + "/outlook", { headers: { Accept: "application/json" }, cache: "no-store" })
        .then(function (answer) { if (!answer.ok) throw new Error(String(answer.status)); return answer.json(); })
        .then(function (found) { outlooks[machineId] = found.orders; }, function () { outlooks[machineId] = null; })
        .finally(function () { asking[machineId] = false; showWhatIf(); });
    });
  }
  roastops.refreshListeners.push(function (target) { if (target.id === "asks") { showWhatIf(); ask(); } });
  document.addEventListener("DOMContentLoaded", ask);
  setInterval(ask, EVERY_MS);
  // After a swap the server's figures stand until the next reading: put the newest back at once.
  roastops.refreshListeners.push(function () {
    Object.keys(roastops.latest).forEach(function (machineId) {
      var card = document.querySelector('[data-machine="' + machineId + '"]');
      if (card) roastops.show(card, roastops.latest[machineId]);
    });
  });
})();

// The first page: live figures on each machine's card.
(function () {
  "use strict";
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
  // After a swap the server's figures stand until the next reading: put the newest back at once.
  roastops.refreshListeners.push(function () {
    Object.keys(roastops.latest).forEach(function (machineId) {
      var card = document.querySelector('[data-machine="' + machineId + '"]');
      if (card) roastops.show(card, roastops.latest[machineId]);
    });
  });
})();

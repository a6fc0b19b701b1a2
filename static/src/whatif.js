// What the twin expects of each held order, as one sentence: on the machine's page and in the queue of all machines.
(function () {
  "use strict";
  var roastops = window.roastops;
  if (!roastops) return;
  var t = roastops.t;
  var MEASURES = {
    "batch mass": t("batch mass"), "preheat": t("preheat"), "probe at charge": t("probe at charge"), "time since charge": t("time since charge"),
    "heater": t("heater"), "fan": t("fan"), "drum": t("drum"), "mains voltage": t("mains voltage")
  };
  /** "135.326 °C" as the person reads it, "9-9" as 9: what the twin was fitted on may be a single value. */
  function measure(text) {
    var isTemperature = / °C$/.test(text), numbers = text.replace(/ °C$/, "").split(/(?!^)-/);
    if (numbers.some(function (number) { return isNaN(Number(number)); })) return text;
    var shown = numbers.map(function (number) { return String(Math.round(10 * (isTemperature && roastops.isFahrenheit ? Number(number) * 1.8 + 32 : Number(number))) / 10); });
    return (shown[0] === shown[1] ? shown[0] : shown.join("–")) + (isTemperature ? " " + roastops.degree : "");
  }
  /** What the twin was not fitted on (roasts/twin/prediction.py), in the page's language. */
  function whyWords(why) {
    var silent = /^no usable reading for (\S+) s$/.exec(why);
    if (silent) return t("no usable reading for {seconds} s", { seconds: silent[1] });
    var found = /^(\D+?) ([-\d.]+(?: \S+)?) is outside (.+)$/.exec(why);
    return found && MEASURES[found[1]] ? t("{what} {value} is outside {range}", { what: MEASURES[found[1]], value: measure(found[2]), range: measure(found[3]) }) : why;
  }
  function degrees(c) { return (roastops.isFahrenheit ? c * 1.8 + 32 : c).toFixed(1) + " " + roastops.degree; }
  function words(found) {
    var last = found.times_s.length - 1;
    var values = {
      time: roastops.mmss((found.times_s[last] - found.times_s[0]) * 1000), with_it: degrees(found.with_c[last]), without: degrees(found.without_c[last]),
      spread: (roastops.isFahrenheit ? found.within_c * 1.8 : found.within_c).toFixed(1), why: (found.why_extrapolating || []).map(whyWords).join(", ")
    };
    return found.is_extrapolating ? t("Twin, in {time}: {with_it} with it, {without} without (±{spread}), extrapolating: {why}.", values) : t("Twin, in {time}: {with_it} with it, {without} without (±{spread}).", values);
  }
  /** Put them on the page: `orders` is what the machine's outlook says of each; an order it says nothing of has no line. */
  function show(machineId, orders) {
    document.querySelectorAll('[data-what-if-machine="' + machineId + '"]').forEach(function (line) {
      var found = orders && orders[line.dataset.whatIf], said = found ? words(found) : "";
      if (line.textContent !== said) line.textContent = said;
    });
  }
  roastops.whatIf = { show: show, whyWords: whyWords };
})();

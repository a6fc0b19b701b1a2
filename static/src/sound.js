// What can be heard: a high alarm that stands and that nobody has acknowledged (two tones, every 4 s), and a new
// order that waits for a decision (one chime). Off and on by the button or M, kept for this person in this browser.
(function () {
  "use strict";
  var REPEAT_MS = 4000;
  var VOLUME = 0.12;
  var roastops = window.roastops;
  var holder = document.querySelector(".top .who");
  if (!roastops || !roastops.refreshListeners || !holder) return;

  var person = document.querySelector(".who .person a");
  var t = roastops.t;
  var KEY = "roastops.sound." + (person ? person.lastChild.textContent.trim() : "");
  function recall() { try { return localStorage.getItem(KEY) || ""; } catch (e) { return ""; } }
  function keep(value) { try { localStorage.setItem(KEY, value); } catch (e) { /* private mode: for this page only */ } }
  var isMuted = recall() === "off";

  // A browser lets a page be heard only after somebody touched it: no context is made before that, and none fails.
  var Context = window.AudioContext || window.webkitAudioContext;
  var context = null;
  function mayBeHeard() {
    return !!(navigator.userActivation ? navigator.userActivation.hasBeenActive : context);
  }
  function wake() {
    if (isMuted || !Context) return;
    if (!context) context = new Context();
    if (context.state === "suspended") context.resume().then(show, function () { /* stays silent, and the button says so */ });
    show();
  }
  function isAudible() { return !!context && context.state === "running"; }

  /** One tone of `hertz`, `at` s from now, `length` s long, with soft ends. */
  function tone(hertz, at, length) {
    var start = context.currentTime + at;
    var voice = context.createOscillator(), volume = context.createGain();
    voice.type = "triangle";
    voice.frequency.value = hertz;
    volume.gain.setValueAtTime(0, start);
    volume.gain.linearRampToValueAtTime(VOLUME, start + 0.02);
    volume.gain.setValueAtTime(VOLUME, start + length - 0.04);
    volume.gain.linearRampToValueAtTime(0, start + length);
    voice.connect(volume).connect(context.destination);
    voice.start(start);
    voice.stop(start + length);
  }
  var sounded = { alarm: 0, order: 0 };
  function sound(what) {
    if (isMuted || !mayBeHeard()) return;
    wake();
    if (!isAudible()) return;
    sounded[what] += 1;
    if (what === "alarm") { tone(880, 0, 0.22); tone(660, 0.26, 0.3); }
    else tone(523, 0, 0.25);
    button.dataset.sounded = sounded.alarm + "," + sounded.order;
  }

  // --- the button ---
  var button = document.createElement("button");
  button.type = "button";
  button.id = "sound-toggle";
  button.className = "plain";
  button.setAttribute("aria-keyshortcuts", "M");
  function words() {
    if (!Context) return t("No sound here");
    if (isMuted) return t("Sound off");
    return mayBeHeard() ? t("Sound on") : t("Sound waits");  // for the first press on this page
  }
  function show() {
    button.textContent = words();
    button.setAttribute("aria-pressed", isMuted ? "false" : "true");
    button.title = !isMuted && !mayBeHeard() ? t("A browser lets a page be heard after the first press of a key or button.") : isMuted ? t("Alarms are silent in this browser. M turns the sound on.") : t("High alarms and new orders can be heard. M turns the sound off.");
  }
  function toggle() {
    isMuted = !isMuted;
    keep(isMuted ? "off" : "on");
    if (isMuted && context) context.suspend();
    else wake();
    show();
    roastops.say(isMuted ? t("Sound off in this browser.") : t("Sound on."));
  }
  button.addEventListener("click", toggle);
  roastops.keys["m"] = toggle;
  holder.insertBefore(button, document.getElementById("help-open"));
  ["pointerup", "keyup"].forEach(function (name) { document.addEventListener(name, wake, { passive: true }); });
  show();

  // --- what is heard ---
  var seenOrders = null;
  function heardAlarms() { return document.querySelectorAll("[data-heard]").length; }
  function look() {
    var now = new Set(Array.from(document.querySelectorAll("[data-held]"), function (held) { return held.dataset.held; }));
    var isNew = seenOrders !== null && Array.from(now).some(function (id) { return !seenOrders.has(id); });
    if (isNew) sound("order");
    seenOrders = now;
  }
  var alarms = 0;
  function watch() {
    var count = heardAlarms();
    if (count > alarms) sound("alarm");  // at once; then again and again
    alarms = count;
  }
  roastops.refreshListeners.push(function () { look(); watch(); });
  document.addEventListener("DOMContentLoaded", function () { look(); watch(); });
  setInterval(function () { if (heardAlarms()) sound("alarm"); show(); }, REPEAT_MS);
})();

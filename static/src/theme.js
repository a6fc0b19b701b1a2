// Before the first paint: the colours this device asked for. "" follows the system.
(function () {
  "use strict";
  var theme = "";
  try { theme = localStorage.getItem("roastops.theme") || ""; } catch (e) { /* private mode: follow the system */ }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();

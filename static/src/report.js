// The report page: printing, and showing the version that was just written.
(function () {
  "use strict";
  var print = document.getElementById("print");
  if (print) print.addEventListener("click", function () { window.print(); });
})();

// What somebody has typed and not sent stays when the panel round it is shown anew: another person's step, an alarm or an
// order must not take words away. Ticks are not kept: they say that somebody has looked at what stands there now.
(function () {
  "use strict";
  var FIELDS = "textarea, select, input:not([type=checkbox]):not([type=radio]):not([type=hidden]):not([type=password])";
  function fieldsIn(panel) {
    return Array.from(panel.querySelectorAll(FIELDS)).filter(function (field) { return field.form && field.name; });
  }
  function keyOf(field) {
    var form = field.form.dataset;
    return field.id || [form.api || form.json || form.shelve || "", form.code || "", field.name].join("|");
  }
  function isTyped(field) {
    if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
    return Array.from(field.options).some(function (option) { return option.selected !== option.defaultSelected; });
  }
  // What was sent is the server's to show; a word more, and it is the writer's again.
  document.addEventListener("submit", function (event) { if (event.target.dataset) event.target.dataset.sent = "yes"; }, true);
  document.addEventListener("input", function (event) { if (event.target.form) delete event.target.form.dataset.sent; }, true);
  document.addEventListener("htmx:beforeSwap", function (event) {
    var panel = event.detail.target;
    panel.roastopsTyped = fieldsIn(panel).filter(function (field) { return !field.form.dataset.sent && isTyped(field); });
  });
  document.addEventListener("htmx:afterSwap", function (event) {
    var panel = event.detail.target, fresh = fieldsIn(panel);
    (panel.roastopsTyped || []).forEach(function (typed) {
      var again = fresh.filter(function (field) { return keyOf(field) === keyOf(typed) && field.tagName === typed.tagName; });
      if (again.length !== 1) return;
      if (typed.tagName !== "SELECT") again[0].value = typed.value;
      else if (again[0].options.length === typed.options.length) Array.from(typed.options).forEach(function (option, n) { again[0].options[n].selected = option.selected; });
    });
    panel.roastopsTyped = [];
  });
})();

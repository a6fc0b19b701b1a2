// Commissioning and STOP drill: forms that send JSON (true, numbers), single steps for the controls, live readings.
(function () {
  "use strict";
  var roastops = window.roastops;
  var page = document.getElementById("console");
  if (!roastops || !roastops.post || !page) return;
  var t = roastops.t;

  function bodyOf(form) {
    var body = {};
    if (form.dataset.code) body.code = form.dataset.code;
    Array.from(form.elements).forEach(function (field) {
      if (!field.name) return;
      if (field.type === "checkbox") body[field.name] = field.checked;
      else if (field.value !== "") body[field.name] = field.value;
    });
    return body;
  }
  function told(form, answer) {
    if ("drill" in form.dataset) return tell(answer.message, !answer.is_passed);
    if (!form.dataset.code) return roastops.notice(form.dataset.done || t("Done."));
    var step = ((answer.under_way || {}).steps || []).find(function (each) { return each.code === form.dataset.code; });
    if (step) tell(step.message, step.result !== "passed");
  }
  function tell(text, isRefused) {
    roastops.worded([text]).then(function (said) { roastops.notice(said[0], isRefused); });
  }
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (!form.dataset || !form.dataset.json) return;
    event.preventDefault();
    var button = form.querySelector("button");
    button.disabled = true;
    roastops.post(form.dataset.json, bodyOf(form)).then(function (answer) {
      told(form, answer);
      if (document.activeElement && form.contains(document.activeElement)) document.activeElement.blur();
      document.querySelectorAll("#wizard details[data-by-hand]").forEach(function (d) { delete d.dataset.byHand; });
      roastops.refresh("commissioning");
      roastops.refresh("stop_drill");
    }, function (error) { roastops.notice(error.message, true); }).finally(function () { button.disabled = false; });
  });

  // One step up or down, from where the machine says that the control stands now.
  document.addEventListener("click", function (event) {
    var button = event.target.closest && event.target.closest("button[data-change]");
    if (!button) return;
    var orders = button.closest("[data-order-type]");
    var reading = roastops.latest[page.dataset.machine];
    var at = reading ? reading[orders.dataset.control + "_step"] : null;
    if (at === null || at === undefined) return roastops.notice(t("The machine does not say where this control stands."), true);
    button.disabled = true;
    roastops.post("/v1/proposals", {
      machine_id: page.dataset.machine, order_type: orders.dataset.orderType, target_value: at + Number(button.dataset.change),
      target_unit: "step", reasoning: "Commissioning: one step while a person watches the machine."
    }).then(function (order) {
      var refusal = roastops.refusal(order);
      roastops.notice(refusal || t("Ordered: watch the machine and its panel."), !!refusal);
    }, function (error) { roastops.notice(error.message, true); }).finally(function () { button.disabled = false; });
  });
  roastops.readingListeners.push(function (machineId, reading) {
    if (machineId === page.dataset.machine) roastops.show(document, reading);
  });
  roastops.refreshListeners.push(function () {
    var reading = roastops.latest[page.dataset.machine];
    if (reading) roastops.show(document, reading);
  });
  roastops.keys["n"] = function () {
    var open = document.querySelector(".wizard-step:not(.is-passed) details");
    if (!open) return roastops.say(t("No step is left."));
    open.open = true;
    (open.querySelector("textarea, input, button") || open.querySelector("summary")).focus();
  };
})();

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

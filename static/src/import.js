// The import page: files by drop or by hand, one after the other, each with what came of it.
(function () {
  "use strict";
  var drop = document.getElementById("drop"), t = window.roastops.t;
  if (!drop) return;
  var picker = document.getElementById("files"), machine = document.getElementById("machine");
  var panel = document.getElementById("progress-panel"), bar = document.getElementById("progress");
  var words = document.getElementById("progress-words"), results = document.getElementById("results");
  var haltButton = document.getElementById("halt"), template = document.getElementById("result-template");
  var maxBytes = Number(drop.dataset.maxBytes);
  var queue = [], isRunning = false, isHalted = false;
  var totals = { files: 0, settled: 0, imported: 0, duplicate: 0, refused: 0, left: 0 };

  function take(files) {
    Array.prototype.forEach.call(files, function (file) {
      var row = template.content.firstElementChild.cloneNode(true);
      row.querySelector("[data-name]").textContent = file.name;
      results.append(row);
      queue.push({ file: file, row: row });
      totals.files += 1;
    });
    if (!queue.length) return;
    panel.hidden = false;
    isHalted = false;
    show(0);
    if (!isRunning) next();
  }

  function next() {
    var job = queue.shift();
    if (!job || isHalted) {
      if (job) queue.unshift(job);
      queue.splice(0).forEach(function (left) { settle(left.row, "left", t("not sent: you stopped before it")); });
      isRunning = false;
      haltButton.hidden = true;
      show(0);
      return;
    }
    isRunning = true;
    haltButton.hidden = queue.length === 0;
    if (job.file.size > maxBytes) {
      settle(job.row, "refused", t("too large"));
      say(job.row, t("The file has {size} MB; at most {most} MB are taken. Export one roast per file.", { size: (job.file.size / 1e6).toFixed(1), most: (maxBytes / 1e6).toFixed(0) }));
      next();
      return;
    }
    send(job);
  }

  function send(job) {
    var form = new FormData(), request = new XMLHttpRequest();
    form.append("file", job.file, job.file.name);
    if (machine.value) form.append("machine_id", machine.value);
    state(job.row, "sending", t("sending"));
    request.open("POST", "/v1/imports");
    request.setRequestHeader("X-CSRFToken", document.querySelector('meta[name="csrf"]').content);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Accept-Language", document.documentElement.lang);
    request.timeout = 120000;
    request.upload.addEventListener("progress", function (event) {
      if (event.lengthComputable) show(event.loaded / event.total * 0.9);
      if (event.loaded === event.total) state(job.row, "sending", t("being read"));
    });
    request.addEventListener("load", function () { answered(job, request); });
    ["error", "timeout", "abort"].forEach(function (name) {
      request.addEventListener(name, function () {
        settle(job.row, "refused", t("no answer"));
        say(job.row, t("The server did not answer. Send this file again: what came in already is known by its digest and comes in once."));
        next();
      });
    });
    request.send(form);
  }

  function answered(job, request) {
    var told = {};
    try { told = JSON.parse(request.responseText); } catch (error) { told = {}; }
    if (request.status === 200 || request.status === 201) {
      accepted(job.row, told);
    } else {
      settle(job.row, "refused", t("refused"));
      say(job.row, [told.message || t("The server answered {status}.", { status: request.status }), told.how_to_fix || ""].join(" ").trim());
      if (told.message) window.roastops.worded([told.message, told.how_to_fix || ""]).then(function (said) { say(job.row, said.join(" ").trim()); });
    }
    next();
  }

  function accepted(row, told) {
    var isDuplicate = told.status === "duplicate";
    var open = row.querySelector("[data-open]");
    open.href = "/roasts/" + encodeURIComponent(told.roast_id) + "/";
    open.hidden = false;
    open.setAttribute("aria-label", t("Open the roast of {name}", { name: told.file_name }));
    if (isDuplicate) {
      settle(row, "duplicate", t("came before"));
      say(row, t("This very file is here already, as {name}. Nothing was added.", { name: told.file_name + (told.title ? " (" + told.title + ")" : "") }));
    } else {
      settle(row, told.warnings.length ? "warned" : "imported", t("imported: {count} readings", { count: told.samples }) + (told.length ? ", " + t("{minutes} min to the drop", { minutes: told.length }) : ""));
    }
    list(row.querySelector("[data-warnings]"), isDuplicate ? [] : told.warnings, "");
    list(row.querySelector("[data-understood]"), told.understood, t("nothing beyond the curve"));
    list(row.querySelector("[data-dropped]"), told.dropped, t("nothing"));
    row.querySelector("[data-details]").hidden = false;
  }

  function list(box, lines, empty) {
    box.replaceChildren();
    (lines.length || !empty ? lines : [empty]).forEach(function (line) {
      var item = document.createElement("li");
      item.textContent = line;
      box.append(item);
    });
    box.hidden = !box.children.length;
  }

  function state(row, name, word) {
    row.dataset.state = name;
    row.querySelector("[data-state-word]").textContent = word;
  }

  function settle(row, name, word) {
    state(row, name, word);
    totals.settled += 1;
    totals[name === "warned" ? "imported" : name] += 1;
    show(0);
  }

  function say(row, text) {
    var box = row.querySelector("[data-words]");
    box.textContent = text;
    box.hidden = false;
  }

  function show(part) {
    bar.max = totals.files;
    bar.value = totals.settled + part;
    var said = t("{settled} of {files}: {imported} imported", totals);
    if (totals.duplicate) said += ", " + t("{duplicate} came before", totals);
    if (totals.refused) said += ", " + t("{refused} refused", totals);
    if (totals.left) said += ", " + t("{left} not sent", totals);
    if (words.textContent !== said) words.textContent = said;
  }

  picker.addEventListener("change", function () { take(picker.files); picker.value = ""; });
  haltButton.addEventListener("click", function () { isHalted = true; haltButton.hidden = true; });
  // The whole page catches a drop: beside the box the browser would open the file and leave the page.
  ["dragenter", "dragover"].forEach(function (name) {
    document.addEventListener(name, function (event) {
      if (!event.dataTransfer || Array.prototype.indexOf.call(event.dataTransfer.types, "Files") < 0) return;
      event.preventDefault();
      drop.dataset.over = "yes";
    });
  });
  document.addEventListener("dragleave", function (event) { if (!event.relatedTarget) delete drop.dataset.over; });
  document.addEventListener("drop", function (event) {
    if (!event.dataTransfer || !event.dataTransfer.files.length) return;
    event.preventDefault();
    delete drop.dataset.over;
    take(event.dataTransfer.files);
  });
  window.addEventListener("beforeunload", function (event) { if (isRunning) event.preventDefault(); });
})();

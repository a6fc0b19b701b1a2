// The orders' pages. New orders are announced, never pushed in: the list stays where the eye is. Rows that are on the
// page show what becomes of them.
(function () {
  "use strict";
  var roastops = window.roastops, t = roastops.t, GATHER_MS = 400;
  var news = document.getElementById("news"), body = document.getElementById("order-rows");

  var filters = document.getElementById("filters");
  if (filters && !("narrowed" in filters.dataset) && matchMedia("(max-width: 699px)").matches) filters.open = false;

  if (news) {
    var words = news.querySelector("[data-news-words]"), show = document.getElementById("news-show");
    var asked = null, told = 0, plain = words.textContent;
    var ask = function () {
      clearTimeout(asked);
      asked = setTimeout(function () { askNews(); askRows(); }, GATHER_MS);
    };
    var get = function (url) {
      return fetch(url, { headers: { "X-Console-Fetch": "1" }, cache: "no-store" }).then(function (answer) {
        if (!answer.ok) throw new Error(String(answer.status));
        return answer;
      });
    };
    var askNews = function () {
      if (news.dataset.isFirst !== "yes") return;
      get(news.dataset.url + "?" + news.dataset.query + "&after=" + encodeURIComponent(news.dataset.after)).then(function (a) { return a.json(); }).then(function (found) {
        show.hidden = found.count === 0;
        if (found.count === 0) { words.textContent = plain; return; }
        var said = { count: found.count, newest: found.newest };
        words.textContent = found.count === 1 ? t("1 new order: {newest}", said)
          : found.is_more ? t("{count} and more new orders, the newest: {newest}", said) : t("{count} new orders, the newest: {newest}", said);
        if (found.count !== told) roastops.say(words.textContent);
        told = found.count;
      }).catch(function () { /* the page says itself that it is cut off; the next decision asks again */ });
    };
    var askRows = function () {
      var rows = body ? Array.from(body.querySelectorAll("[data-order]")) : [];
      if (!rows.length) return;
      var ids = rows.map(function (row) { return row.dataset.order; });
      get(news.dataset.rowsUrl + "?ids=" + ids.map(encodeURIComponent).join(",")).then(function (a) { return a.text(); }).then(function (html) {
        var fresh = new DOMParser().parseFromString("<table><tbody>" + html + "</tbody></table>", "text/html");
        rows.forEach(function (row) {
          var now = fresh.querySelector('[data-order="' + CSS.escape(row.dataset.order) + '"]');
          if (!now) return;
          ["status", "outcome"].forEach(function (part) {
            var old = row.querySelector('[data-live="' + part + '"]'), cell = now.querySelector('[data-live="' + part + '"]');
            if (old && cell && old.innerHTML !== cell.innerHTML) old.replaceChildren.apply(old, Array.from(cell.childNodes).map(function (node) { return document.importNode(node, true); }));
          });
        });
      }).catch(function () { /* as above */ });
    };
    document.body.addEventListener("ro:proposal", ask);
    document.body.addEventListener("ro:all", ask);
  }

  // --- keys: j and k walk the list, Enter opens ----------------------------------------------------
  function walk(by) {
    var links = Array.from(document.querySelectorAll("#order-rows th a")), at = links.indexOf(document.activeElement);
    var next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by))];
    if (next) next.focus();
  }
  roastops.keys["j"] = function () { walk(1); };
  roastops.keys["k"] = function () { walk(-1); };
  roastops.keys["/"] = function () { var first = document.getElementById("status"); if (first) { filters.open = true; first.focus(); } };
})();

(function () {
  "use strict";
  var root = document.documentElement;
  var by = function (id) { return document.getElementById(id); };
  var all = function (selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); };

  /* Theme: as the system, light, dark. */
  var themes = ["auto", "light", "dark"], theme = by("theme");
  var label = function () { theme.textContent = "Theme: " + (root.dataset.theme || "auto"); };
  theme.addEventListener("click", function () {
    var next = themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    try { localStorage.setItem("asyncio-guest-theme", next); } catch (error) { /* not kept */ }
    label();
  });
  label();

  /* What is known of a case, for the search and for the cells. */
  var cases = {};
  all("article.case").forEach(function (article) {
    var what = article.querySelector(".what"), report = article.querySelector(".report");
    cases[article.id] = {
      what: what ? what.textContent : "",
      report: report ? report.textContent : "",
      tags: article.querySelector(".tags").textContent
    };
  });
  all("details.cell").forEach(function (cell) {
    var known = cases[cell.dataset.i], place = cell.querySelector(".js-what");
    if (!known || !known.what) return;
    var link = place.querySelector("a");
    link.textContent = "the case";
    place.insertBefore(document.createTextNode(known.what + " "), link);
    if (known.report) place.appendChild(document.createTextNode(", stems from " + known.report));
  });

  /* The cells by contender and group. */
  var sections = all("section.contender").map(function (section) {
    return {
      element: section,
      key: section.dataset.k,
      groups: all("details.group", section).map(function (group) {
        var cells = all("details.cell", group).map(function (cell) {
          return entry(cell, cell.dataset.i, cell.dataset.s, cell.dataset.v, "u" in cell.dataset,
                       cell.querySelector("summary").textContent);
        });
        all("ul.list", group).forEach(function (list) {
          var reason = list.previousElementSibling;
          var why = reason && reason.className === "reason" ? reason : null;
          var mine = all("li", list).map(function (item) {
            return entry(item, item.firstChild.textContent, list.dataset.s, list.dataset.v, false, why ? why.textContent : "");
          });
          list.cells = mine;
          list.why = why;
          cells = cells.concat(mine);
        });
        return { element: group, letter: group.dataset.g, cells: cells, lists: all("ul.list", group) };
      })
    };
  });
  function entry(element, id, state, behaviour, unclean, text) {
    var known = cases[id];
    var words = [id, text, known ? known.what : "", known ? known.report : ""].join(" ").toLowerCase();
    return { element: element, state: state, behaviour: behaviour, unclean: unclean, words: words };
  }

  /* Filters. */
  var who = by("f-c"), group = by("f-g"), verdict = by("f-v"), text = by("f-q"), count = by("f-count");
  var opened = false;
  function fits(cell, wanted, words) {
    if (wanted && wanted !== cell.state && wanted !== cell.behaviour && !(wanted === "unclean" && cell.unclean)) return false;
    return words.every(function (word) { return cell.words.indexOf(word) >= 0; });
  }
  function apply() {
    var words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    var wanted = verdict.value, shown = 0, total = 0;
    var filtered = Boolean(wanted || words.length || group.value);
    sections.forEach(function (section) {
      var here = 0;
      section.groups.forEach(function (part) {
        var right = (!who.value || who.value === section.key) && (!group.value || group.value === part.letter);
        var mine = 0;
        part.cells.forEach(function (cell) {
          var fit = right && fits(cell, wanted, words);
          cell.element.hidden = !fit;
          total += 1;
          mine += fit ? 1 : 0;
        });
        part.lists.forEach(function (list) {
          var empty = list.cells.every(function (cell) { return cell.element.hidden; });
          list.hidden = empty;
          if (list.why) list.why.hidden = empty;
        });
        part.element.hidden = mine === 0;
        if (filtered) part.element.open = mine > 0; else if (opened) part.element.open = false;
        here += mine;
      });
      section.element.hidden = here === 0;
      shown += here;
    });
    opened = filtered;
    count.value = shown === total ? total + " cells" : shown + " of " + total + " cells";
    by("none").hidden = shown > 0;
    all(".matrix td a").forEach(function (link) {
      link.classList.toggle("chosen", Boolean(who.value || group.value) && link.dataset.c === who.value && link.dataset.g === group.value);
    });
  }
  function clear() { who.value = group.value = verdict.value = text.value = ""; apply(); }
  [who, group, verdict].forEach(function (control) { control.addEventListener("change", apply); });
  var timer = 0;
  text.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(apply, 120); });
  by("f-clear").addEventListener("click", clear);
  by("filters").addEventListener("submit", function (event) { event.preventDefault(); apply(); });

  /* A figure of the summary filters the cells by what it counts. */
  all("[data-filter]").forEach(function (link) {
    link.addEventListener("click", function (event) {
      event.preventDefault();
      who.value = group.value = text.value = "";
      verdict.value = link.dataset.filter;
      apply();
      by("cells").scrollIntoView();
      verdict.focus({ preventScroll: true });
    });
  });

  /* A field of the matrix filters the cells. */
  document.querySelector(".matrix").addEventListener("click", function (event) {
    var link = event.target.closest("td a");
    if (!link) return;
    event.preventDefault();
    who.value = link.dataset.c;
    group.value = link.dataset.g;
    verdict.value = text.value = "";
    apply();
    by("cells").scrollIntoView();
    var first = document.querySelector("#cells details.group:not([hidden]) > summary");
    if (first) first.focus({ preventScroll: true });
  });
  document.querySelector(".matrix").addEventListener("keydown", function (event) {
    var step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    var cell = event.target.closest("td, th");
    if (!step || !cell) return;
    var lines = all(".matrix tr").filter(function (line) { return line.querySelector("a"); });
    var y = lines.indexOf(cell.parentNode), x = cell.cellIndex, link = null;
    do {
      y += step[0]; x += step[1];
      var next = lines[y] && lines[y].cells[x];
      if (!next) return;
      link = next.querySelector("a");
    } while (!link);
    event.preventDefault();
    link.focus();
  });

  /* Links into closed parts open them; what a filter hides comes back. */
  function reveal(id) {
    var target = id && by(id);
    if (!target) return;
    if (target.closest("[hidden]")) clear();
    for (var part = target; part; part = part.parentElement) {
      if (part.tagName === "DETAILS") part.open = true;
    }
    target.scrollIntoView();
    (target.tagName === "DETAILS" ? target.firstElementChild : target).focus({ preventScroll: true });
  }
  function hash() {
    try { return decodeURIComponent(location.hash.slice(1)); } catch (error) { return ""; }
  }
  window.addEventListener("hashchange", function () { reveal(hash()); });

  /* A passed cell opens where it stands: what was expected, and how to run it again. */
  function panel(item, section) {
    var id = item.firstChild.textContent, known = cases[id] || { what: "", report: "", tags: "" };
    var box = document.createElement("div");
    box.className = "panel";
    var line = function (tag, words, name) {
      var element = document.createElement(tag);
      element.textContent = words;
      if (name) element.className = name;
      box.appendChild(element);
      return element;
    };
    if (known.what) line("p", known.what);
    line("p", known.tags + (known.report ? ", stems from " + known.report : ""), "quiet");
    var command = line("div", "", "command");
    var code = document.createElement("code");
    code.textContent = by("again").dataset.program + " run " + quote(section.dataset.n + "::" + id);
    command.appendChild(code);
    var copy = document.createElement("button");
    copy.type = "button"; copy.className = "copy"; copy.textContent = "Copy";
    command.appendChild(copy);
    var link = line("a", "All contenders in this case");
    link.href = "#" + id;
    return box;
  }
  function quote(word) { return /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replace(/'/g, "'\"'\"'") + "'"; }
  by("cells").addEventListener("click", function (event) {
    var link = event.target.closest("ul.list > li > a");
    if (!link) return;
    event.preventDefault();
    var item = link.parentNode, old = item.querySelector(".panel");
    if (old) { item.removeChild(old); item.className = ""; link.removeAttribute("aria-expanded"); return; }
    item.className = "open";
    link.setAttribute("aria-expanded", "true");
    item.appendChild(panel(item, item.closest("section.contender")));
  });

  document.addEventListener("click", function (event) {
    if (!event.target.classList.contains("copy")) return;
    var button = event.target, words = button.previousElementSibling.textContent;
    var done = function () { button.textContent = "Copied"; setTimeout(function () { button.textContent = "Copy"; }, 1500); };
    var select = function () {
      var range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    };
    if (navigator.clipboard && navigator.clipboard.writeText) navigator.clipboard.writeText(words).then(done, select);
    else select();
  });
  document.addEventListener("keydown", function (event) {
    var typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      text.focus();
    } else if (event.key === "Escape" && (event.target === text || !typing)) {
      clear();
    }
  });

  apply();
  reveal(hash());
})();

(function () {
  var root = document.documentElement, theme = null;
  root.classList.add("js");
  try { theme = localStorage.getItem("asyncio-guest-theme"); } catch (error) { /* a file without storage */ }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
})();

// Sets the colours before the first paint: the operator's choice, else the system's preference.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("overlord.theme");
  } catch {
    // Storage is refused; the system's preference holds.
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme =
    chosen === "dark" || chosen === "light" ? chosen : dark ? "dark" : "light";
})();

/** Dark or light. theme.js has set it before the first paint; here it changes. */

import { ref } from "vue";

export type Theme = "light" | "dark";
const KEY = "overlord.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export const theme = ref<Theme>(
  document.documentElement.dataset["theme"] === "dark" ? "dark" : "light",
);

system.addEventListener("change", () => {
  if (stored() === null) apply(system.matches ? "dark" : "light");
});

/** Change over. Back at the system's preference, the page follows the system again. */
export function toggleTheme(): void {
  const next: Theme = theme.value === "dark" ? "light" : "dark";
  try {
    if ((next === "dark") === system.matches) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // Storage is refused: the choice holds until the page is loaded again.
  }
  apply(next);
}

function apply(next: Theme): void {
  document.documentElement.dataset["theme"] = next;
  theme.value = next;
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

// Before anything is drawn: the colours that were chosen, so that a dark page does not flash white.
"use strict";

try {
  const theme = JSON.parse(localStorage.getItem("weft.settings") ?? "{}").theme;
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage, or not ours: the system's colours.
}

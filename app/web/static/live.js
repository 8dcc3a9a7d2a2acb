// Keeps pages fresh: asks for the page again and swaps the parts that are marked `data-live`.
// Without it nothing is missing but that: forms are forms, links are links.

const EVERY_MS = 5000;
const SLOWEST_MS = 60000;
const TIMEOUT_MS = 10000;

let wait = EVERY_MS;
let timer;

const isBusy = (part) =>
  part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea") ||
  part.querySelector("input:checked") !== null ||
  isSelecting(part);

function isSelecting(part) {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
}

// Only what differs, so that an alert that stays is not announced again with every number that moves.
function exchange(part, fresh) {
  let at = part.firstElementChild;
  const drop = () => { const gone = at; at = at.nextElementSibling; gone.remove(); };
  for (const node of [...fresh.children]) {
    let same = at;
    while (same !== null && same.outerHTML !== node.outerHTML) same = same.nextElementSibling;
    if (same !== null) {
      while (at !== same) drop();
      at = at.nextElementSibling;
    } else if (at !== null && at.tagName === node.tagName) {
      const old = at;
      at = at.nextElementSibling;
      old.replaceWith(node);
    } else {
      part.insertBefore(node, at);
    }
  }
  while (at !== null) drop();
}

function swap(part, fresh) {
  if (part.innerHTML === fresh.innerHTML || isBusy(part)) return;
  const open = [...part.querySelectorAll("details")].map((details) => details.open);
  const scrolled = [...part.querySelectorAll(".wide")].map((wide) => wide.scrollLeft);
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  exchange(part, fresh);
  part.querySelectorAll("details").forEach((details, n) => { details.open = open[n] ?? false; });
  part.querySelectorAll(".wide").forEach((wide, n) => { wide.scrollLeft = scrolled[n] ?? 0; });
  if (focused !== null) {
    [...part.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
  }
}

async function refresh() {
  const stale = document.getElementById("stale");
  try {
    const answer = await fetch(location.href, {
      headers: { Accept: "text/html", "X-Paceline-Live": "1" }, redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (answer.type === "opaqueredirect") {  // the session is over: sign in, and come back here
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other !== null) swap(part, other);
    }
    document.querySelector("footer time")?.replaceWith(fresh.querySelector("footer time") ?? "");
    stale.textContent = "";
    wait = EVERY_MS;
  } catch {
    stale.textContent = ", stale: the dashboard does not answer";
    wait = Math.min(SLOWEST_MS, wait * 2);
  }
  plan();
}

// A little at random, so that many browsers do not ask at the same moment.
function plan() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, wait * (0.9 + 0.2 * Math.random()));
}

if (document.querySelector("[data-live]") !== null) {
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
  plan();
}

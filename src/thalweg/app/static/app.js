// The cookie has the token by now: it is removed from the address, and so from the requests that Gradio makes.
{
  const address = new URL(location.href);
  address.searchParams.delete("token");
  if (address.href !== location.href) history.replaceState(history.state, "", address);
}

// Keys of the navigate tab, unless the focus is in a field: 1 to 9 choose a candidate, 0 rejects all, z undoes.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const view = document.querySelector("#navigate-view");
  if (!view || view.offsetParent === null) return;
  const key = event.key.toLowerCase();
  const press = (target) => {
    if (target) {
      event.preventDefault();
      target.click();
    }
  };
  if (/^[1-9]$/.test(key)) press(view.querySelector(`[data-action="choose"][data-value="${key - 1}"]`));
  else if (key === "0") press(document.querySelector("#navigate-none"));
  else if (key === "z") press(document.querySelector("#navigate-undo"));
});

// The open tab of each list is stored for the browser tab, so that a reload opens them again.
const OPEN_TABS = "thalweg-tabs";
const nameOf = (tab) => tab.textContent.trim();
const openTabs = () => JSON.parse(sessionStorage.getItem(OPEN_TABS) ?? "[]");
document.addEventListener("click", (event) => {
  const tab = event.target.closest('[role="tab"]');
  if (!tab || !event.isTrusted) return;
  // Read from the click itself: the page marks the new tab later, or never where it is left before.
  const list = [...tab.closest('[role="tablist"]').querySelectorAll('[role="tab"]')].map(nameOf);
  const others = openTabs().filter((name) => !list.includes(name));
  sessionStorage.setItem(OPEN_TABS, JSON.stringify([...others, nameOf(tab)]));
}, true);
const reopen = (names, frames = 600) => {
  if (!names.length || !frames) return;
  const tab = [...document.querySelectorAll('[role="tab"]')].find((other) => nameOf(other) === names[0]);
  const isOpen = tab?.getAttribute("aria-selected") === "true";
  if (tab && !isOpen) tab.click(); // repeated, since a click before the page has started does nothing
  requestAnimationFrame(() => reopen(isOpen ? names.slice(1) : names, frames - 1));
};
// An address with a store, such as a copied one, opens the tab Earth, except by a reload of the page.
const namesStore = () => new URLSearchParams(location.hash.slice(1)).has("store");
const openEarth = () => {
  sessionStorage.setItem(OPEN_TABS, JSON.stringify([...openTabs().filter((name) => name !== "Steer images"), "Earth"]));
  reopen(["Earth"]);
};
window.addEventListener("hashchange", () => namesStore() && openEarth());
if (namesStore() && performance.getEntriesByType("navigation")[0]?.type !== "reload") openEarth();
else reopen(openTabs());

// The prompt and the seeds are stored and restored, too.
const TYPED = ["prompt", "seeds"];
const fieldOf = (name) => document.querySelector(`#${name} textarea, #${name} input`);
document.addEventListener("input", (event) => {
  const name = TYPED.find((other) => fieldOf(other) === event.target);
  if (name) sessionStorage.setItem(`thalweg-${name}`, event.target.value);
});
const retype = (frames = 600) => {
  if (!frames) return;
  if (!TYPED.every(fieldOf)) return requestAnimationFrame(() => retype(frames - 1));
  for (const name of TYPED) {
    const typed = sessionStorage.getItem(`thalweg-${name}`);
    if (typed === null) continue;
    fieldOf(name).value = typed;
    fieldOf(name).dispatchEvent(new Event("input", { bubbles: true }));
  }
};
retype();

// The token that let the browser in is in its cookie by now: it leaves the address, and with it what Gradio sends on.
{
  const address = new URL(location.href);
  address.searchParams.delete("token");
  if (address.href !== location.href) history.replaceState(history.state, "", address);
}

// 1 to 9 choose, 0 none of these, z undo: where the walk is on the screen and nobody types or turns a knob.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const board = document.querySelector("#navigate-board");
  if (!board || board.offsetParent === null) return;
  const key = event.key.toLowerCase();
  const press = (target) => {
    if (target) {
      event.preventDefault();
      target.click();
    }
  };
  if (/^[1-9]$/.test(key)) press(board.querySelector(`[data-act="choose"][data-value="${key - 1}"]`));
  else if (key === "0") press(document.querySelector("#navigate-none"));
  else if (key === "z") press(document.querySelector("#navigate-undo"));
});

// Which tab of each list was chosen is kept with the browser tab, so that a reload comes back to them.
const OPEN_TABS = "thalweg-tabs";
const nameOf = (tab) => tab.textContent.trim();
const openTabs = () => JSON.parse(sessionStorage.getItem(OPEN_TABS) ?? "[]");
document.addEventListener("click", (event) => {
  const tab = event.target.closest('[role="tab"]');
  if (!tab || !event.isTrusted) return;
  // Told from the click itself: the page marks the new tab later, and may be left before it does.
  const list = [...tab.closest('[role="tablist"]').querySelectorAll('[role="tab"]')].map(nameOf);
  const others = openTabs().filter((name) => !list.includes(name));
  sessionStorage.setItem(OPEN_TABS, JSON.stringify([...others, nameOf(tab)]));
}, true);
const reopen = (names, patience = 600) => {
  if (!names.length || !patience) return;
  const tab = [...document.querySelectorAll('[role="tab"]')].find((other) => nameOf(other) === names[0]);
  const isOpen = tab?.getAttribute("aria-selected") === "true";
  if (tab && !isOpen) tab.click(); // again and again, since a click before the page is alive does nothing
  requestAnimationFrame(() => reopen(isOpen ? names.slice(1) : names, patience - 1));
};
reopen(openTabs());

// What was typed at the top comes back, too.
const TYPED = ["prompt", "seeds"];
const fieldOf = (name) => document.querySelector(`#${name} textarea, #${name} input`);
document.addEventListener("input", (event) => {
  const name = TYPED.find((other) => fieldOf(other) === event.target);
  if (name) sessionStorage.setItem(`thalweg-${name}`, event.target.value);
});
const retype = (patience = 600) => {
  if (!patience) return;
  if (!TYPED.every(fieldOf)) return requestAnimationFrame(() => retype(patience - 1));
  for (const name of TYPED) {
    const typed = sessionStorage.getItem(`thalweg-${name}`);
    if (typed === null) continue;
    fieldOf(name).value = typed;
    fieldOf(name).dispatchEvent(new Event("input", { bubbles: true }));
  }
};
retype();

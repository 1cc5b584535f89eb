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

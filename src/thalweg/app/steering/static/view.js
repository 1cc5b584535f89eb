// A click in a view, or Enter and Space on a node, goes to the server as an action and a value. The value is a text, since
// numbers of JavaScript are too short for large seeds.
const send = (target) => {
  const found = target.closest("[data-action]");
  if (found && element.contains(found)) trigger("click", { action: found.dataset.action, value: found.dataset.value });
};
element.addEventListener("click", (event) => send(event.target));
element.addEventListener("keydown", (event) => {
  if ((event.key === "Enter" || event.key === " ") && event.target.closest("g[data-action]")) {
    event.preventDefault();
    send(event.target);
  }
});

// What is clicked in a board, or pressed on its keyboard, goes to the server as an act and a value, a text: numbers of
// JavaScript are too short for large seeds.
const act = (target) => {
  const found = target.closest("[data-act]");
  if (found && element.contains(found)) trigger("click", { act: found.dataset.act, value: found.dataset.value });
};
element.addEventListener("click", (event) => act(event.target));
element.addEventListener("keydown", (event) => {
  if ((event.key === "Enter" || event.key === " ") && event.target.closest("g[data-act]")) {
    event.preventDefault();
    act(event.target);
  }
});

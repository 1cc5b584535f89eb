// Making elements and asking the server. Text given to `make` and `trace` is only ever text, never markup.

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function trace(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function addressOf(path, query = {}) {
  const address = new URL(`earth/${path}`, new URL(".", location.href));
  for (const [key, value] of Object.entries(query)) address.searchParams.set(key, value);
  return address;
}

async function answerOf(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the app does not answer: is it still running?");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error || `the app answered ${answer.status}`);
}

async function ask(path, query, options) {
  return (await answerOf(addressOf(path, query), options)).json();
}

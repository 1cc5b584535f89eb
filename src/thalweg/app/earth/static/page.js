// Elements of the page and requests to the server. Text passed to `make` and `makeSvg` is never markup.

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function makeSvg(name, attributes = {}, ...children) {
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

async function fetchOk(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the app does not answer: check that it is running");
  }
  if (answer.ok) return answer;
  const failure = await answer.json().catch(() => ({}));
  throw new Error(failure.error || `the app answered ${answer.status}`);
}

async function fetchJson(path, query, options) {
  return (await fetchOk(addressOf(path, query), options)).json();
}

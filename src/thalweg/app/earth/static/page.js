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

function postJson(path, body) {
  return fetchJson(path, {}, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

// Save a file under a name, as a download of the browser.
function saveFile(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Save what the server answers, under the name that it gives.
async function saveAnswer(path, query, options) {
  const answer = await fetchOk(addressOf(path, query), options);
  const [, name] = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "") || [null, "download"];
  saveFile(await answer.blob(), name);
}

function fileStem(store) {
  return store.split("/").pop().replace(/\.zarr$/, "").replace(/[^A-Za-z0-9._-]+/g, "-");
}

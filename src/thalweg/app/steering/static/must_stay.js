// The field "Must stay" follows the prompt until the user edits it; the name of an embedding file is no text to score.
(prompt, mustStay) => {
  const text = /\.safetensors$/i.test(prompt.trim()) ? "" : prompt;
  const before = window.thalwegMustStay ?? "FIRST PROMPT";
  window.thalwegMustStay = text;
  return mustStay === before ? text : mustStay;
}

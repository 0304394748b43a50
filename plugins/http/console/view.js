// Small parts of the page. Text goes in as text, never as markup.

export const find = (id) => document.getElementById(id);

// Make an element: `make("li", {class: "x"}, "text", another)`; properties that are functions listen.
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (typeof value === "boolean") element.toggleAttribute(key, value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// Replace what a list holds, unless it is the same as before: who reads or uses it is not disturbed.
export function fill(list, signature, children) {
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  list.replaceChildren(...children());
}

export function options(select, values, word = (value) => value) {
  const signature = JSON.stringify(values.map((value) => [value, word(value)]));
  const chosen = select.value;
  fill(select, signature, () => values.map((value) => make("option", { value }, word(value))));
  if (values.includes(chosen)) select.value = chosen;
}

export const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString();

export function duration(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

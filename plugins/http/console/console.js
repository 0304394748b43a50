// The page: it asks the kernel every two seconds how it is, follows what happens, and shows both.

import { Api } from "./api.js";
import { Chart } from "./charts.js";
import { Chat } from "./chat.js";
import { duration, fill, find, make, options, time } from "./view.js";
import { speaker } from "./words.js";

const EVERY_MS = 2000;
const EVENTS_KEPT = 100;
const STRATEGIES = ["graceful", "immediate", "session_aware", "background"];

const api = new Api();
let language = navigator.language.startsWith("zh") ? "zh" : "en";
let word = speaker(language);
let status = { slots: [] };
let models = [];
let before = null;
const swaps = new Map(); // by slot: the last step, or why it failed

const say = (name, values) => word(name, values);
const modelOf = (slot) => status.slots.find((one) => one.name === slot)?.model || say("none");
const chat = new Chat(api, say, modelOf);
const MEBIBYTE = 2 ** 20;
const mebibytes = (value) => `${value.toFixed(1)} MiB`;
const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const charts = {
  tokens: new Chart(find("chart-tokens"), (value) => value.toFixed(1)),
  latency: new Chart(find("chart-latency"), milliseconds),
  streams: new Chart(find("chart-streams"), String),
  memory: new Chart(find("chart-memory"), mebibytes),
};

// ---- what is shown ----------------------------------------------------------------------------------------------

function stepText(step) {
  if (step instanceof Error) return say("failed", { why: step.message });
  const words = [`${step.source || say("empty")} → ${step.target}`, say(step.state), `${(step.elapsed_s ?? 0).toFixed(1)} s`];
  if (step.moved_streams) words.push(`${step.moved_streams} ${say("streams")}`);
  if (step.detail) words.push(step.detail);
  return words.join(" · ");
}

function slotCard(slot) {
  const model = make("select", { "aria-label": `${slot.name}: ${say("model")}` });
  const how = make("select", { "aria-label": `${slot.name}: ${say("strategy")}` });
  options(model, models.filter((one) => one.state === "available").map((one) => one.id));
  model.value = slot.model;
  options(how, STRATEGIES, say);
  const form = make("form", {
    submit: (event) => {
      event.preventDefault();
      swap(slot.name, model.value, how.value);
    },
  }, model, how, make("button", {}, say("swap")));
  const state = make("span", { class: slot.state === "ready" ? "good" : "bad" }, say(slot.state));
  const detail = slot.detail ? [make("p", { class: "quiet" }, slot.detail)] : [];
  return make("li", {}, make("strong", {}, slot.name), " ", state, make("div", {}, slot.model || say("empty")), ...detail,
    form, make("p", { class: "steps quiet", role: "status", "data-slot": slot.name }));
}

function showSteps() {
  for (const line of document.querySelectorAll("[data-slot]")) {
    const step = swaps.get(line.dataset.slot);
    const text = step ? stepText(step) : "";
    if (line.textContent !== text) line.textContent = text;
  }
}

function showFigures(traffic) {
  const now = performance.now();
  const passed = before && status.deltas >= before.deltas; // a kernel that started anew counts anew
  const rate = passed ? ((status.deltas - before.deltas) * 1000) / (now - before.at) : 0;
  before = { deltas: status.deltas, at: now };
  const figures = [["streams", status.streams], ["tokens", rate.toFixed(1)], ["requests", status.requests],
    ["memory", mebibytes(status.rss_bytes / MEBIBYTE)], ["uptime", duration(status.uptime_s)]];
  find("figures").replaceChildren(
    ...figures.map(([name, value]) => make("div", {}, make("dt", {}, say(name)), make("dd", {}, String(value)))));
  drawCharts(traffic, rate);
}

function drawCharts(traffic, rate) {
  charts.tokens.add(rate);
  charts.latency.add(traffic.answers ? (traffic.median_s ?? 0) * 1000 : null);
  charts.streams.add(status.streams);
  charts.memory.add(status.rss_bytes / MEBIBYTE);
}

function show(sessions, traffic) {
  const usable = models.filter((one) => one.state === "available").map((one) => one.id);
  const slots = status.slots.map(({ name, model, state, detail }) => ({ name, model, state, detail }));
  fill(find("slots"), JSON.stringify([language, slots, usable]), () => slots.map(slotCard));
  options(find("chat-slot"), slots.map((slot) => slot.name));
  showSteps();
  showFigures(traffic);
  fill(find("models"), JSON.stringify([language, models]), () => models.map((one) =>
    make("li", {}, one.id, " ", make("span", { class: "quiet" }, [one.driver, say(one.state), one.reason].filter(Boolean).join(" · ")))));
  const plugins = status.plugins ?? [];
  fill(find("plugins"), JSON.stringify([language, plugins]), () => plugins.map((one) =>
    make("li", {}, `${one.id} ${one.version ?? ""} `, make("span", { class: one.state && one.state !== "available" ? "bad" : "quiet" },
      [one.publisher, one.summary, one.state && say(one.state), one.reason ?? one.unsigned].filter(Boolean).join(" · ")))));
  fill(find("sessions"), JSON.stringify([language, sessions]), () => sessions.map((one) =>
    make("li", { class: "row" }, make("span", { class: "grow" }, one.title || one.id, " ",
      make("span", { class: "quiet" }, `${one.slot} · ${say("turns", { n: one.turns })}`)),
    make("button", { type: "button", click: () => open(one.id) }, say("open")),
    make("button", { type: "button", click: () => remove(one.id) }, say("remove")))));
  const warnings = status.warnings ?? [];
  find("health").textContent = [`${status.version}`, ...warnings].join(" · ");
}

function happened({ name, data }) {
  const said = JSON.parse(data);
  if (name === "swap_advanced") {
    swaps.set(said.swap.slot, said.swap);
    if (said.swap.state === "switched") chat.switched(said.swap);
    showSteps();
  }
  const about = said.swap ? `${said.swap.slot}: ${stepText(said.swap)}`
    : said.instance ? `${said.instance.driver}/${said.instance.model}: ${say(said.instance.state)}`
      : [said.model?.id ?? said.model, said.model?.state && say(said.model.state), said.reason].filter(Boolean).join(" · ");
  const events = find("events");
  events.prepend(make("li", {}, make("span", { class: "quiet" }, `${time(said.at)} ${name} `), about));
  while (events.children.length > EVENTS_KEPT) events.lastChild.remove();
}

// ---- what is done -----------------------------------------------------------------------------------------------

async function swap(slot, model, strategy) {
  try {
    for await (const step of api.swap(slot, model, strategy)) {
      swaps.set(slot, step);
      showSteps();
    }
  } catch (error) {
    swaps.set(slot, error);
    showSteps();
  }
  await look();
}

async function open(id) {
  chat.open(await api.get(`/sessions/${encodeURIComponent(id)}`));
}

async function remove(id) {
  await api.remove(`/sessions/${encodeURIComponent(id)}`);
  await look();
}

async function look() {
  try {
    let sessions, traffic;
    [status, models, sessions, traffic] = await Promise.all(
      ["/status", "/models", "/sessions", "/traffic"].map((path) => api.get(path)));
    show(sessions, traffic);
    return true;
  } catch (error) {
    for (const chart of Object.values(charts)) chart.add(null);
    const refused = error.status === 401 || error.status === 403;
    find("key-form").hidden = !refused;
    find("health").textContent = refused ? say("needs_key") : `${say("lost")}: ${error.message}`;
    return false;
  }
}

async function follow() {
  for (;;) {
    try {
      for await (const event of api.happenings()) happened(event);
    } catch {
      // `look` says what is wrong
    }
    await new Promise((resume) => setTimeout(resume, EVERY_MS));
  }
}

function speak() {
  word = speaker(language);
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  find("language").textContent = say("other");
  find("language").lang = language === "zh" ? "en" : "zh";
  for (const chart of Object.values(charts)) chart.draw();
}

find("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  speak();
  look();
});
find("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
});
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.key = find("key").value;
  find("key").value = "";
  look();
});

speak();
follow();
for (;;) {
  await look();
  await new Promise((resume) => setTimeout(resume, EVERY_MS));
}

// The page: it asks the kernel every two seconds how it is, follows what happens, and shows both.

import { Api } from "./api.js";
import { Chart } from "./charts.js";
import { Chat } from "./chat.js";
import { Slots } from "./slots.js";
import { eventText } from "./tales.js";
import { duration, fill, find, make, options, time } from "./view.js";
import { speaker } from "./words.js";

const EVERY_MS = 2000;
const EVENTS_KEPT = 100;

const api = new Api();
let language = navigator.language.startsWith("zh") ? "zh" : "en";
let word = speaker(language);
let status = { slots: [] };
let models = [];
let before = null;

const say = (name, values) => word(name, values);
const modelOf = (slot) => status.slots.find((one) => one.name === slot)?.model || say("none");
const chat = new Chat(api, say, modelOf);
const slots = new Slots(api, say, look);
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
  const bound = status.slots ?? [];
  slots.show(bound, usable, language);
  options(find("chat-slot"), bound.map((slot) => slot.name));
  showFigures(traffic);
  fill(find("models"), JSON.stringify([language, models]), () => models.map((one) =>
    make("li", {}, one.id, " ", make("span", { class: "quiet" }, [one.driver, say(one.state), one.reason].filter(Boolean).join(" · ")))));
  const plugins = status.plugins ?? [];
  fill(find("plugins"), JSON.stringify([language, plugins]), () => plugins.map((one) =>
    make("li", {}, `${one.id} ${one.version ?? ""} `, make("span", { class: one.state && one.state !== "available" ? "bad" : "quiet" },
      [one.publisher, one.summary, one.state && say(one.state), one.reason ?? one.unsigned].filter(Boolean).join(" · ")))));
  fill(find("sessions"), JSON.stringify([language, sessions]), () => sessions.map((one) =>
    make("li", { class: "row" }, make("span", { class: "grow" }, one.title || one.id, " ",
      make("span", { class: "quiet" }, `${one.home ? `${one.slot} → ${one.home}` : one.slot} · ${say("turns", { n: one.turns })}`)),
    make("button", { type: "button", click: () => open(one.id) }, say("open")),
    make("button", { type: "button", click: () => remove(one.id) }, say("remove")))));
  const warnings = status.warnings ?? [];
  find("health").textContent = [`${status.version}`, ...warnings].join(" · ");
}

function happened({ name, data }) {
  const said = JSON.parse(data);
  if (name === "swap_advanced") slots.advanced(said.swap);
  const events = find("events");
  const about = make("span", { class: "quiet" }, `${time(said.at)} ${say(name)} `);
  events.prepend(make("li", {}, about, eventText(name, said, say)));
  while (events.children.length > EVENTS_KEPT) events.lastChild.remove();
}

// ---- what is done -----------------------------------------------------------------------------------------------

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

"use strict";

const $ = (selector) => document.querySelector(selector);
const MOVES = { w: [0, 1], s: [0, -1], a: [1, 1], d: [1, -1], e: [2, 1], q: [2, -1],
  u: [3, -1], o: [3, 1], i: [4, 1], k: [4, -1], j: [5, 1], l: [5, -1] };
const WISHES = { enter: "start", y: "success", n: "fail", x: "discard", t: "again", z: "undo", v: "scene" };
const HEARTBEAT_MS = 50;

let socket = null;
let state = null;
let recording = false;
let startedStep = 0;
let instructionShown = null;
let tripsSeen = null;
let refused = null;
const hand = { clutch: false, open: true, keys: new Map(), pads: new Map(), slow: false };
const link = { rtt: null, offset: null, best: Infinity, age: null };

// Talking to the cockpit.

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/live${location.search}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { document.body.dataset.link = "open"; };
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : show(data));
  socket.onclose = () => {
    document.body.dataset.link = "closed";
    letGo();
    say("#clutch", "No connection: the arm holds");
    setTimeout(connect, 1000);
  };
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function wish(what, value = null) {
  refused = null;
  send({ t: "wish", what, value });
}

function hear(message) {
  if (message.t === "state") return draw(message);
  if (message.t === "scene") return listTasks(message.instructions);
  if (message.t === "takes") return drawTakes(message.takes);
  if (message.t === "error") refused = { number: "refused", text: message.text, bad: true };
  if (message.t === "echo") {
    const now = performance.now();
    link.rtt = now - message.at;
    if (link.rtt < link.best) {
      link.best = link.rtt;
      link.offset = message.now - (now - link.rtt / 2) / 1000;
    }
    link.best += 0.05; // clocks drift: an old best is believed less and less
  }
}

// The hand.

function movement() {
  const move = [0, 0, 0, 0, 0, 0];
  const pace = hand.slow ? 0.3 : 1;
  for (const key of hand.keys.values()) move[MOVES[key][0]] += MOVES[key][1];
  for (const [axis, sign] of hand.pads.values()) move[axis] += sign;
  for (const pad of navigator.getGamepads?.() ?? []) {
    if (pad?.mapping !== "standard") continue; // whose axes are known: of others, one may be a trigger that rests at -1
    const stick = (value) => (Math.abs(value) < 0.12 ? 0 : value);
    move[0] -= stick(pad.axes[1] ?? 0);
    move[1] -= stick(pad.axes[0] ?? 0);
    move[2] -= stick(pad.axes[3] ?? 0);
    move[5] -= stick(pad.axes[2] ?? 0);
    press(pad, 0, () => setGripper(!hand.open));
    press(pad, 5, () => takeHold(!hand.clutch));
    press(pad, 9, () => wish("start"));
    press(pad, 1, () => wish("stop"));
  }
  return move.map((value) => Math.max(-1, Math.min(1, value)) * pace);
}

const pressed = new Set();
function press(pad, button, act) {
  const name = `${pad.index}.${button}`;
  const down = Boolean(pad.buttons[button]?.pressed);
  const fresh = down && !pressed.has(name);
  if (down) pressed.add(name); else pressed.delete(name);
  if (fresh) act(); // which may look at the buttons again
}

function beat() {
  if (state?.role !== "operator" || document.hidden) return;
  const move = movement(); // first: a button may take hold or let go
  send({ t: "hand", clutch: hand.clutch, move: hand.clutch ? move : [0, 0, 0, 0, 0, 0],
    gripper: hand.open ? 1 : 0, at: performance.now() });
}

function takeHold(on) {
  if (on) beat(); // however quickly it is pressed: open before, held after
  hand.clutch = on && state?.role === "operator" && !state.stopped;
  if (!hand.clutch) letGo();
  $("#hold").setAttribute("aria-pressed", hand.clutch);
  beat();
}

function letGo() {
  hand.clutch = false;
  hand.keys.clear();
  hand.pads.clear();
  $("#hold").setAttribute("aria-pressed", false);
  document.querySelectorAll(".down").forEach((button) => button.classList.remove("down"));
}

function setGripper(open) {
  hand.open = open;
  $("#gripper").firstChild.data = open ? "Close gripper " : "Open gripper ";
  beat();
}

function leave() {
  letGo();
  send({ t: "gone" });
}

// What is seen.

function show(data) {
  const view = new DataView(data);
  const length = view.getUint16(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 2, length)));
  let figure = document.getElementById(`camera-${head.camera}`);
  if (!figure) {
    figure = document.createElement("figure");
    figure.id = `camera-${head.camera}`;
    figure.append(document.createElement("img"), document.createElement("figcaption"));
    figure.querySelector("figcaption").textContent = figure.firstChild.alt = head.camera;
    $("#cameras").append(figure);
  }
  const image = figure.firstChild;
  const url = URL.createObjectURL(new Blob([new Uint8Array(data, 2 + length)], { type: "image/jpeg" }));
  image.onload = () => {
    send({ t: "seen", number: head.number });
    if (link.offset !== null) link.age = 1000 * (performance.now() / 1000 + link.offset - head.captured);
  };
  image.onerror = () => send({ t: "seen", number: head.number });
  URL.revokeObjectURL(image.src); // of the one before, drawn or not
  image.src = url;
}

function say(selector, text) {
  const element = $(selector);
  if (element.textContent !== text) element.textContent = text;
}

function draw(next) {
  state = next;
  if (tripsSeen !== null && state.trips > tripsSeen && hand.clutch) letGo();
  tripsSeen = state.trips;
  if (state.role === "free") send({ t: "lead" });
  if (state.role !== "operator" && hand.clutch) letGo();
  if (!hand.clutch && state.driver !== "person") followGripper();
  say("#robot", state.robot);
  say("#role", roleText());
  document.body.dataset.role = state.role;
  const mode = state.stopped ? "stopped" : state.driver;
  document.body.dataset.hand = mode;
  const driving = { stopped: `Stopped: ${state.stopped}`, person: state.policy.on ? "You correct" : "You drive",
    policy: "The policy drives", nobody: "The arm holds" };
  if (state.role !== "operator") driving.person = "The operator drives";
  say("#clutch", driving[mode]);

  const tape = state.recorder;
  if (tape.recording && !recording) startedStep = state.step - tape.frames;
  recording = tape.recording;
  document.body.dataset.tape = tape.recording ? "on" : "off";
  const seconds = (tape.frames / state.hz).toFixed(1);
  const judged = state.success ? " · the scene says: done" : "";
  say("#tape span", (tape.recording ? `Recording · ${seconds} s · ${tape.frames} steps` : "Ready") + judged);
  const mine = state.role === "operator";
  for (const button of document.querySelectorAll("[data-wish]")) {
    const inTake = ["success", "fail", "discard"].includes(button.dataset.wish);
    const between = ["start", "undo", "scene"].includes(button.dataset.wish);
    button.disabled = !mine || (inTake && !tape.recording) || (between && tape.recording);
  }
  $("#instruct button").disabled = $("#instruction").disabled = !mine || tape.recording;
  $("#policy").hidden = !state.has_policy;
  $("#policy").disabled = !mine;
  $("#policy").setAttribute("aria-pressed", state.policy.on);
  say("#policy span", state.policy.on ? "The policy drives: switch it off" : "Let the policy drive");
  $("#hold").disabled = !mine || Boolean(state.stopped);
  $("#hold").firstChild.data = hand.clutch ? "Let go " : "Take hold ";
  $("#release").hidden = !state.stopped;
  $("#release").disabled = !mine || !state.at_rest;
  if (state.instruction !== instructionShown && document.activeElement !== $("#instruction")) {
    instructionShown = state.instruction;
    $("#instruction").value = state.instruction;
  }
  drawWords();
  drawNotes();
  drawNumbers();
}

// Where S2 looks is drawn into the first camera's picture.
function drawWords() {
  const { on, words, places } = state.policy;
  $("#words").hidden = !on || !words;
  say("#words span", words);
  const figure = $("figure");
  if (!figure) return;
  const shown = on ? places : [];
  const rings = figure.querySelectorAll("i");
  for (const ring of [...rings].slice(shown.length)) ring.remove();
  shown.forEach(([right, down], index) => {
    const ring = rings[index] ?? figure.appendChild(document.createElement("i"));
    ring.style.left = `${100 * right}%`;
    ring.style.top = `${100 * down}%`;
  });
}

function roleText() {
  const others = state.pages - 1;
  if (state.role !== "operator") return "Another page operates; you watch";
  return others > 0 ? `${others} ${others > 1 ? "others watch" : "other watches"}` : "";
}

function followGripper() {
  const open = state.gripper > 0.5;
  if (open !== hand.open) setGripper(open);
}

function drawNotes() {
  const { trouble } = state.recorder;
  const last = trouble ? { number: "trouble", text: trouble, bad: true } : null;
  const shown = [...state.notes, last, refused].filter(Boolean).slice(-3);
  const key = JSON.stringify(shown);
  if ($("#notes").dataset.key === key) return;
  $("#notes").dataset.key = key;
  $("#notes").replaceChildren(...shown.map((note) => {
    const line = document.createElement("li");
    line.textContent = note.text[0].toUpperCase() + note.text.slice(1);
    line.classList.toggle("bad", note.bad);
    return line;
  }));
}

function drawNumbers() {
  const cell = (value, digits = 0, unit = "") => (value === null || value === undefined
    ? "–" : `${value.toFixed(digits)}${unit}`);
  const tape = state.recorder;
  const rows = [
    ["Control", `${state.rate_hz.toFixed(1)} of ${state.hz} Hz`, state.rate_hz < 0.9 * state.hz],
    ["Off by, p99", cell(state.error_ms, 1, " ms"), false],
    ["Late steps", String(state.late), false],
    ["Dropped", String(tape.dropped), tape.dropped > 0],
    ["For the disk", String(tape.waiting), tape.waiting > 20],
    ["Disk left", cell(tape.free / 1e9, 0, " GB"), Boolean(tape.trouble)],
    ["Round trip", cell(link.rtt, 0, " ms"), link.rtt > 100],
    ["Picture age", cell(link.age, 0, " ms"), link.age > 300],
  ];
  if (state.policy.on) {
    rows.push(["S2's age", cell(state.policy.age_s, 2, " s"), state.policy.age_s > 1]);
    rows.push(["S1, S2", `${cell(state.policy.s1_ms)}, ${cell(state.policy.s2_ms)} ms`, false]);
  }
  const rules = state.rules.join(", ");
  rows.push(["Limited by", rules || "nothing", Boolean(rules), "pair"]);
  rows.push(["Tool", `${state.tool.map((value) => value.toFixed(3)).join("  ")} m`, false, "wide"]);
  rows.push(["Joints", state.joints_at.map((at) => state.state[at].toFixed(2)).join("  ") + ` ${state.joints_unit}`, false, "wide"]);
  const list = $("#numbers");
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(([name, value, warn, span], index) => {
    let row = list.children[index];
    if (!row) {
      row = document.createElement("div");
      row.append(document.createElement("dt"), document.createElement("dd"));
      list.append(row);
    }
    if (row.firstChild.textContent !== name) row.firstChild.textContent = name;
    if (row.lastChild.textContent !== value) row.lastChild.textContent = value;
    row.className = `${span ?? ""} ${warn ? "warn" : ""}`;
  });
}

function drawTakes(takes) {
  $("#none").hidden = takes.length > 0;
  const good = takes.filter((take) => take.success).length;
  say("#count", takes.length ? `${takes.length}, of them ${good} ${good === 1 ? "success" : "successes"}` : "");
  $("#takes").replaceChildren(...takes.map((take) => {
    const row = document.createElement("li");
    const picture = document.createElement("img");
    picture.src = take.picture;
    picture.alt = "";
    const words = document.createElement("div");
    const mark = document.createElement("span");
    mark.textContent = take.success ? "Success" : "Failure";
    mark.className = take.success ? "mark yes" : "mark";
    const about = document.createElement("small");
    about.append(mark, ["", `${(take.frames / state.hz).toFixed(1)} s`,
      take.corrected ? `${take.corrected} steps corrected` : "", take.dropped ? `${take.dropped} dropped` : ""]
      .filter((part, index) => part || !index).join(" · "));
    words.append(take.task, about);
    row.append(picture, words);
    return row;
  }));
}

function listTasks(texts) {
  $("#tasks").replaceChildren(...texts.map((text) => new Option(text, text)));
}

// Keys, buttons, and the ways to be gone.

function isTyping(event) { return event.target.matches?.("input, textarea"); }

addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (["Alt", "AltGraph", "Control", "Meta"].includes(event.key)) liftKeys(); // some are then let go without a word
  if (key === "escape") { event.preventDefault(); letGo(); document.activeElement?.blur(); return wish("stop"); }
  if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  hand.slow = event.shiftKey;
  if (key in MOVES) { hand.keys.set(place(event), key); mark(key, true); return beat(); }
  if (event.repeat) return;
  const onButton = event.target.matches?.("button") && !event.target.matches(".pads button");
  if (key === " " && !onButton) { event.preventDefault(); return takeHold(!hand.clutch); }
  if (key === "enter" && onButton) return;
  if (key === "g") return setGripper(!hand.open);
  if (key === "p") return wish("policy", !state?.policy.on);
  if (key === "home") return wish("release");
  if (key === "/") { event.preventDefault(); return $("#instruction").focus(); }
  if (key in WISHES) { event.preventDefault(); wish(WISHES[key]); }
});

addEventListener("keyup", (event) => {
  const key = hand.keys.get(place(event));
  hand.slow = event.shiftKey;
  if (hand.keys.delete(place(event))) { mark(key, false); beat(); }
});

// The key itself: what it writes may have changed since it went down, by another that is held beside it.
function place(event) { return event.code || event.key.toLowerCase(); }

function liftKeys() {
  for (const key of hand.keys.values()) mark(key, false);
  hand.keys.clear();
}

function mark(key, down) {
  const [axis, sign] = MOVES[key];
  $(`[data-move="${axis}${sign > 0 ? "+" : "-"}"]`)?.classList.toggle("down", down);
}

for (const button of document.querySelectorAll("[data-move]")) {
  const move = [Number(button.dataset.move[0]), button.dataset.move[1] === "+" ? 1 : -1];
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId);
    hand.pads.set(event.pointerId, move);
    button.classList.add("down");
    beat();
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    button.addEventListener(end, (event) => {
      hand.pads.delete(event.pointerId);
      button.classList.remove("down");
      beat();
    });
  }
}

for (const button of document.querySelectorAll("[data-wish]")) {
  button.addEventListener("click", () => { wish(button.dataset.wish); button.blur(); });
}
const click = (selector, act) => $(selector).addEventListener("click", (event) => { act(); event.currentTarget.blur(); });
click("#stop", () => { letGo(); wish("stop"); });
click("#hold", () => takeHold(!hand.clutch));
click("#release", () => wish("release"));
click("#gripper", () => setGripper(!hand.open));
click("#policy", () => wish("policy", !state?.policy.on));
$("#instruct").addEventListener("submit", (event) => {
  event.preventDefault();
  wish("instruct", $("#instruction").value);
  $("#instruction").blur();
});
$("#instruction").addEventListener("focus", letGo);

addEventListener("blur", letGo);
addEventListener("pagehide", leave);
document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); });
setInterval(beat, HEARTBEAT_MS);
connect();

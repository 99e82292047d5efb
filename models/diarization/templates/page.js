(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (selector) => document.querySelector(selector);
  const made = (tag, props = {}, ...inside) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...inside);
    return node;
  };
  const audio = find("audio");
  const [scroll, timeline, playhead] = [".scroll", ".timeline", ".playhead"].map(find);
  const names = [...data.speakers]; // what each speaker is called now
  const line = (name) => name.replace(/[\p{C}\p{Z}]+/gu, " ").trim() || "_";
  const many = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const rows = find("tbody").rows;
  const turns = data.turns.map(([start, end, who, rttm, srt], number) => {
    const button = made("button", { type: "button", tabIndex: number ? -1 : 0 });
    button.style.left = `${(100 * start) / data.duration}%`;
    button.style.width = `${(100 * (end - start)) / data.duration}%`;
    const times = [0, 1].map((cell) => rows[number].cells[cell].textContent).join(" to ");
    return { start, end, who, rttm, srt, button, times, row: rows[number] };
  });
  const byButton = new Map(turns.map((turn) => [turn.button, turn]));
  const paint = (node, speaker, kind) => {
    node.className = `${kind} p${speaker % 4}`;
    node.style.setProperty("--colour", data.colours[speaker % data.colours.length]);
  };

  // Hearing -------------------------------------------------------------------------------------
  let at = 0; // the turn that Tab leads to
  const seek = (seconds) => {
    audio.currentTime = seconds;
    show();
  };
  const play = (seconds) => {
    seek(seconds);
    audio.play().catch(() => {}); // the error event tells why
  };
  const choose = (number) => {
    turns[at].button.tabIndex = -1;
    at = number;
    turns[at].button.tabIndex = 0;
  };
  const mark = (node, is) => {
    if (is !== node.hasAttribute("aria-current")) node.toggleAttribute("aria-current", is);
    if (is) node.setAttribute("aria-current", "true");
  };
  const show = () => {
    const now = audio.currentTime;
    playhead.style.left = `${Math.min(100, (100 * now) / data.duration)}%`;
    const heard = turns.filter((turn) => {
      const is = turn.start <= now && now < turn.end && (now > 0 || !audio.paused);
      mark(turn.button, is);
      mark(turn.row, is);
      return is;
    });
    const who = [...new Set(heard.map((turn) => line(names[turn.who])))];
    find("#now").textContent = audio.paused ? "" : who.join(" and ") || "Nobody speaks";
    const x = (now / data.duration) * timeline.clientWidth - scroll.scrollLeft;
    if (!audio.paused && (x < 0 || x > scroll.clientWidth)) scroll.scrollLeft += x - 20;
  };
  const follow = () => {
    show();
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", follow);
  for (const event of ["pause", "seeked", "timeupdate"]) audio.addEventListener(event, show);
  audio.addEventListener("error", () => {
    find("#silent").textContent = `The recording cannot be played. Is ${data.audio} still in its `
      + "place, and of a kind that this browser plays?";
    find("#silent").hidden = false;
  });
  timeline.addEventListener("click", (event) => {
    const turn = byButton.get(event.target);
    if (turn) {
      choose(turns.indexOf(turn));
      play(turn.start);
    } else if (!event.target.closest(".who")) {
      const box = timeline.getBoundingClientRect();
      play(((event.clientX - box.left) / box.width) * data.duration);
    }
  });
  find("tbody").addEventListener("click", (event) => {
    const turn = turns.find((one) => one.row === event.target.closest("tr"));
    choose(turns.indexOf(turn));
    play(turn.start);
  });
  const clock = (seconds) => {
    if (!Number.isInteger(seconds)) return `${Number(seconds.toFixed(3))} s`;
    const two = (number) => String(number % 60).padStart(2, "0");
    const minutes = Math.floor(seconds / 60);
    const long = minutes >= 60 ? `${Math.floor(minutes / 60)}:${two(minutes)}` : minutes;
    return `${long}:${two(seconds)}`;
  };
  find("#zoom").addEventListener("input", (event) => {
    const times = 2 ** event.target.value;
    timeline.style.width = `${100 * times}%`;
    const step = data.distances.find((one) => data.duration / one <= data.marks * times);
    const marks = Array.from({ length: Math.ceil(data.duration / step - 0.3) }, (_, number) => {
      const mark = made("span", {}, clock(number * step));
      mark.style.left = `${(100 * number * step) / data.duration}%`;
      return mark;
    });
    find(".axis").replaceChildren(...marks);
    scroll.scrollLeft = (audio.currentTime / data.duration) * timeline.clientWidth - 40;
  });

  // Keys ----------------------------------------------------------------------------------------
  const busy = (node) => node.closest("input, audio, button:not(.turn)") !== null;
  const step = (by) => {
    const onTurn = byButton.has(document.activeElement);
    const next = onTurn || by < 0 ? at + by : turns.findIndex((x) => x.end > audio.currentTime);
    if (next < 0 || next >= turns.length) return;
    choose(next);
    turns[at].button.focus();
    seek(turns[at].start);
  };
  document.addEventListener("keydown", (event) => {
    if (busy(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      if (!event.repeat) audio.paused ? play(audio.currentTime) : audio.pause();
    } else if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " " && byButton.has(event.target)) event.preventDefault();
  });

  // Names ---------------------------------------------------------------------------------------
  const draw = () => {
    const lanes = [...new Set(names)].map((name, number) => {
      const own = turns.filter((turn) => names[turn.who] === name);
      const seconds = own.reduce((sum, turn) => sum + turn.end - turn.start, 0);
      const said = made("span", {}, `${many(own.length, "turn")}, ${seconds.toFixed(1)} s`);
      const who = made("div", { className: "who", id: `lane${number}` });
      who.append(made("b", {}, line(name)), " ", said);
      const track = made("div", { className: "track" }, ...own.map((turn) => turn.button));
      const lane = made("div", { role: "group" }, who, track);
      lane.setAttribute("aria-labelledby", who.id);
      for (const turn of own) paint(turn.button, names.indexOf(name), "turn");
      return lane;
    });
    find("#lanes").replaceChildren(...lanes);
    for (const turn of turns) {
      const name = line(names[turn.who]);
      turn.button.setAttribute("aria-label", `${name}, ${turn.times}`);
      turn.button.title = `${name}, ${turn.times}`;
      turn.row.cells[2].textContent = name;
    }
    const known = [...new Set(names)].map((name) => made("option", { value: line(name) }));
    find("#known").replaceChildren(...known);
    show();
  };
  const rename = (speaker, given) => {
    // What looks the same is the same, even where a name holds what cannot be seen.
    const label = data.speakers[speaker];
    const same = [label, ...names].find((name) => line(name) === line(given));
    names[speaker] = given.trim() ? (same ?? given.trim()) : label;
    const others = data.speakers.filter((_, k) => k !== speaker && names[k] === names[speaker]);
    draw();
    find("#said").textContent = others.length
      ? `${[label, ...others].map(line).join(" and ")} are one speaker now, `
        + `called ${line(names[speaker])}.`
      : `${line(label)} is called ${line(names[speaker])} now.`;
  };
  data.speakers.forEach((label, speaker) => {
    const id = `name${speaker}`;
    const input = made("input", { id, value: line(label), autocomplete: "off" });
    input.setAttribute("list", "known");
    input.addEventListener("change", () => {
      rename(speaker, input.value);
      input.value = line(names[speaker]);
    });
    const swatch = made("span");
    paint(swatch, speaker, "swatch");
    const hear = made("button", { type: "button" }, "Hear");
    hear.setAttribute("aria-label", `Hear ${line(label)}`);
    const own = turns.filter((turn) => turn.who === speaker);
    const longest = own.reduce((a, b) => (b.end - b.start > a.end - a.start ? b : a));
    hear.addEventListener("click", () => play(longest.start));
    const title = made("label", { htmlFor: id }, `Name of ${line(label)}`);
    find(".speakers").append(made("li", {}, title, made("div", {}, swatch, input, hear)));
  });

  // Saving: as samevoice.models.diarization.formats writes them --------------------------------
  const field = (name) => {
    const kept = name.normalize("NFC").replace(/[\p{C}\p{Z}"]/gu, "_");
    return !kept || data.nothing.includes(kept) ? `${kept}_` : kept;
  };
  const fields = () => {
    const order = [...new Set(names)].sort();
    const found = new Map();
    for (const changes of [false, true]) {
      for (const name of order.filter((one) => (field(one) !== one) === changes)) {
        let as = field(name);
        while ([...found.values()].includes(as)) as += "_";
        found.set(name, as);
      }
    }
    return found;
  };
  const written = {
    rttm: () => {
      const known = fields();
      const of = (turn) => `${turn.rttm} <NA> <NA> ${known.get(names[turn.who])} <NA> <NA>\n`;
      return turns.map((turn) => `SPEAKER ${data.uri} 1 ${of(turn)}`).join("");
    },
    srt: () => {
      const text = (turn) => line(names[turn.who]).replaceAll("-->", "->");
      return turns.map((turn, k) => `${k + 1}\n${turn.srt}\n${text(turn)}\n`).join("\n");
    },
  };
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => {
      const suffix = button.dataset.save;
      const blob = new Blob([written[suffix]()], { type: "text/plain;charset=utf-8" });
      const href = URL.createObjectURL(blob);
      made("a", { href, download: `${data.file}.${suffix}` }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60000);
      find("#said").textContent = `${data.file}.${suffix} was saved.`;
    });
  }
  draw();
  for (const node of ["#keys", "#speakers", "#now", ".playhead"]) find(node).hidden = !turns.length;
})();
